"""The URL of an S3 server, as in the settings. Commands without a client import this as well."""

from typing import Literal
from urllib.parse import urlsplit

#: Where a URL names the bucket: in the path, in the host, or as boto3 decides.
AddressingStyle = Literal["auto", "path", "virtual"]


def checked_endpoint(url: str) -> str:
    """Return the URL of a server, without blanks around it.

    Raises:
        ValueError: It is not the URL of a server.
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
