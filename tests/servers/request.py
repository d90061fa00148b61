"""The record of a request that a test server makes before it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, unquote_to_bytes


@dataclass(frozen=True)
class Request:
    """One request as the server received it. Header names are in lower case."""

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str]) -> Self:
        """Parse a path-style request. `target` is `/bucket/key?query`, as in the request line."""
        path, _, query = target.partition("?")
        bucket, _, key = unquote_to_bytes(path).decode("utf-8", "surrogateescape")[1:].partition("/")
        lowered = {name.lower(): value for name, value in headers.items()}
        return cls(method, bucket, key, dict(parse_qsl(query, keep_blank_values=True)), lowered)

    @property
    def range(self) -> str | None:
        """The requested range."""
        return self.headers.get("range")

    @property
    def if_match(self) -> str | None:
        """The ETag that the object must have."""
        return self.headers.get("if-match")

    @property
    def version_id(self) -> str | None:
        """The requested version."""
        return self.query.get("versionId")
