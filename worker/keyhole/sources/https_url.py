"""The URL of an object on a web server: `https://HOST[:PORT]/PATH[?QUERY]`.

The query of a URL can be a password: whoever has a presigned URL of S3 can read the object. So the name of
an object, which is printed, logged and stored, contains `?***` instead of the query.

One parser (urllib3's) interprets the URL, and the request uses the parsed parts. If two parsers were used, a
URL could name one host to the check and another host to the request.
"""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import unquote_to_bytes, urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from keyhole.masking import MASK

#: The ports of the schemes that Keyhole accepts.
PORTS: Final = {"https": 443, "http": 80}
#: The most characters of a URL. A presigned URL of S3 with a token has about 2,000 characters; web servers
#: refuse more than about 8,000.
MOST_CHARACTERS: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class WebUrl:
    """A parsed URL.

    Args:
        scheme: `https` or `http`.
        host: The host in lower case; an IPv6 address has brackets.
        port: The port.
        path: The path, in which all special characters are encoded.
        query: The query without `?`; it can be secret.
        authorization: The value of the header `Authorization`, from the user and the password in the URL;
            `None` if the URL has none.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str | None = field(repr=False)
    authorization: str | None = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URL.

        Raises:
            ValueError: The text is not the URL of an object on a web server. The message does not contain
                the query, a user or a password.
        """
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"the URL has more than {MOST_CHARACTERS} characters")
        try:
            parts = parse_url(text)
            port = parts.port
        except (LocationParseError, ValueError):
            # The message of the cause contains the URL.
            raise ValueError("the URL is not valid; write https://HOST/PATH, and the host in ASCII") from None
        scheme = parts.scheme or ""
        if scheme not in PORTS or not parts.host or port == 0:
            raise ValueError("the URL names no object on a web server; write https://HOST/PATH")
        if port is not None and "@" in (parts.path or ""):
            # A `/` in a password that is not encoded would make a part of the password a port and a path.
            raise ValueError("the URL has an @ in its path; write it as %40")
        # Do not pass the user on as it is written: an encoded user contains no colon, so the colon that
        # separates the password is the first.
        authorization = None if parts.auth is None else b64encode(unquote_to_bytes(parts.auth)).decode()
        return cls(
            scheme,
            parts.host,
            port or PORTS[scheme],
            parts.path or "/",
            parts.query,
            None if authorization is None else f"Basic {authorization}",
        )

    def redirected(self, location: str) -> Self:
        """Return the URL to which an answer redirects.

        `location` is the header `Location`, as bytes that were decoded as Latin-1.

        Raises:
            ValueError: The location is not the URL of an object on a web server.
        """
        try:
            stated = location.encode("latin-1").decode()
        except UnicodeError:
            stated = location
        return self.parse(urljoin(self.url, stated))

    @property
    def origin(self) -> tuple[str, str, int]:
        """Return scheme, host and port. A password is sent only to the origin for which it was given."""
        return self.scheme, self.host, self.port

    @property
    def place(self) -> str:
        """Return the URL without its query, user and password."""
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"

    @property
    def name(self) -> str:
        """Return the name of the object: its URL with the query, the user and the password masked."""
        user = "" if self.authorization is None else f"{MASK}@"
        scheme, _, rest = self.place.partition("://")
        return f"{scheme}://{user}{rest}" + ("" if self.query is None else f"?{MASK}")

    @property
    def url(self) -> str:
        """Return the URL to request. It contains the query, so do not print it."""
        return self.place + ("" if self.query is None else f"?{self.query}")
