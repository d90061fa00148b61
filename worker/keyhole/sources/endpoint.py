"""The place of an S3 server as settings state it. Commands import this that make no client."""

from typing import Literal
from urllib.parse import urlsplit

#: Where a bucket is named: in the URL's path, in its host, or as boto3 sees fit.
AddressingStyle = Literal["auto", "path", "virtual"]


def checked_endpoint(url: str) -> str:
    """Return the URL of a server, without blanks around it.

    Raises:
        ValueError: It is not such a URL.
    """
    stated = url.strip()
    try:
        place = urlsplit(stated)
        usable = place.scheme in {"http", "https"} and place.hostname and place.port != 0
    except ValueError:
        usable = False
    if not usable or place.query or place.fragment or any(map(str.isspace, stated)):
        raise ValueError("is not the URL of a server; write https://HOST or http://HOST:PORT")
    return stated
