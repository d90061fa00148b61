"""Checks the URL of an S3 server. This module does not import boto3, so commands without S3 start fast."""

from typing import Literal
from urllib.parse import urlsplit

#: How a request names the bucket: in the URL's path, in the host name (`virtual`), or as boto3 chooses
#: (`auto`).
AddressingStyle = Literal["auto", "path", "virtual"]


def checked_endpoint(url: str) -> str:
    """Return the URL of a server without white space around it.

    Raises:
        ValueError: The text is not the URL of a server.
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
