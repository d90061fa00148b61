"""A model of S3's objects and tags with the methods of boto3's client. Every request can fail.

It answers the requests of `keyhole.results.tag_writer` as S3 does, in a few microseconds each, so that a test
can try thousands of orders of events. The model calls `before` for each request. `before` can change objects,
and returns the fault of the request or `None`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import md5
from typing import Any

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from botocore.parsers import ResponseParserError


class Fault(Enum):
    """A fault in a request."""

    SERVER_ERROR = (500, "InternalError")
    SLOW_DOWN = (503, "SlowDown")
    DENIED = (403, "AccessDenied")
    EXPIRED = (400, "ExpiredToken")
    #: The connection ends before the server receives the request.
    RESET = "reset"
    #: The request takes effect, but its answer is lost.
    ANSWER_LOST = "answer_lost"
    #: The request takes effect, but the server reports a failure.
    ANSWER_WRONG = "answer_wrong"
    #: The request takes effect, but a header of the answer has no valid number, so botocore's parser raises.
    SENSELESS = "senseless"
    #: The request takes effect, but the answer is not XML, for example because a tag contains a control
    #: character.
    MALFORMED = "malformed"
    #: The client times out. The request takes effect later, on the object that exists then.
    LATE = "late"


class Killed(BaseException):
    """Raised when the process that sends the request is killed."""


@dataclass
class Stored:
    """An object, or a version of it."""

    body: bytes
    version_id: str | None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        """The ETag, with quotes."""
        return f'"{md5(self.body, usedforsecurity=False).hexdigest()}"'


class ModelS3:
    """One key of a bucket. `versions` contains its versions, oldest first; at most one without versioning."""

    def __init__(self, *, versioned: bool) -> None:
        self.versioned = versioned
        self.versions: list[Stored] = []
        self.requests: list[str] = []
        self.before: Callable[[str], Fault | None] = lambda _: None
        self._late: list[Callable[[], object]] = []
        self._count = 0

    # Actions of other clients

    def put(self, body: bytes, tags: dict[str, str] | None = None) -> Stored:
        """Upload an object."""
        self._count += 1
        stored = Stored(body, f"v{self._count}" if self.versioned else None, dict(tags or {}))
        self.versions = [*self.versions, stored] if self.versioned else [stored]
        return stored

    def delete(self) -> None:
        """Delete the latest version permanently."""
        del self.versions[-1:]

    def take_effect(self) -> None:
        """Let the late requests take effect."""
        late, self._late = self._late, []
        for act in late:
            act()

    @property
    def current(self) -> Stored | None:
        """The latest version."""
        return self.versions[-1] if self.versions else None

    # Requests of the client under test

    def head_object(self, **address: Any) -> Any:
        return self._ask("HeadObject", address, lambda stored: {"ETag": stored.etag})

    def get_object_tagging(self, **address: Any) -> Any:
        def read(stored: Stored) -> Any:
            return {"TagSet": [{"Key": name, "Value": value} for name, value in stored.tags.items()]}

        return self._ask("GetObjectTagging", address, read)

    def put_object_tagging(self, *, Tagging: Any, **address: Any) -> Any:  # noqa: N803 - boto3's name
        tags = {tag["Key"]: tag["Value"] for tag in Tagging["TagSet"]}
        assert 0 < len(tags) <= 10

        def write(stored: Stored) -> Any:
            stored.tags = tags
            return {}

        return self._ask("PutObjectTagging", address, write)

    def delete_object_tagging(self, **address: Any) -> Any:
        def write(stored: Stored) -> Any:
            stored.tags = {}
            return {}

        return self._ask("DeleteObjectTagging", address, write)

    def _ask(self, operation: str, address: Any, act: Callable[[Stored], Any]) -> Any:
        self.requests.append(operation)
        fault = self.before(operation)

        def now() -> Any:
            stored = self.find(address.get("VersionId"))
            if stored is None:
                raise _error(404, "404" if operation == "HeadObject" else "NoSuchKey", operation)
            return act(stored)

        if fault is None:
            return now()
        if fault is Fault.LATE:
            self._late.append(lambda: self.find(address.get("VersionId")) and now())
            raise ReadTimeoutError(endpoint_url="http://s3")
        if fault in {Fault.ANSWER_LOST, Fault.ANSWER_WRONG, Fault.SENSELESS, Fault.MALFORMED}:
            now()
        if fault in {Fault.ANSWER_LOST, Fault.RESET}:
            raise ConnectionClosedError(endpoint_url="http://s3")
        if fault is Fault.SENSELESS:
            raise ValueError("invalid literal for int() with base 10: 'many'")
        if fault is Fault.MALFORMED:
            raise ResponseParserError("not well-formed (invalid token): line 1")
        status, code = (500, "InternalError") if fault is Fault.ANSWER_WRONG else fault.value
        raise _error(status, code, operation)

    def find(self, version_id: str | None) -> Stored | None:
        """Return a version; by default the latest."""
        if not version_id:
            return self.current
        return next((stored for stored in self.versions if stored.version_id == version_id), None)


def _error(status: int, code: str, operation: str) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)
