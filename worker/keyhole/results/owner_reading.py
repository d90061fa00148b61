"""Reads the tags of an object to find its owner, and explains why tags cannot be read."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from keyhole.reasons import Reason
from keyhole.results.owner import Owner, owner_in
from keyhole.results.tag_writer import Address, read_tags
from keyhole.sources.errors import SourceError, UnreadableError
from keyhole.sources.retries import retried
from keyhole.sources.s3_metadata import http_status
from keyhole.sources.s3_refusal import BOTO_ERRORS, explain

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: The maximum length of the explanation why an owner is unknown.
_WHY_CHARACTERS: Final = 300


class OwnerReading:
    """Finds the owner in the answers to the requests that read an object's tags.

    Args:
        tag: The name of the tag.
    """

    def __init__(self, tag: str) -> None:
        self._tag = tag
        #: The owner, as far as it is known; `None` before the first answer.
        self.owner: Owner | None = None

    def learn(self, found: Mapping[str, str] | Exception) -> Owner:
        """Note the tags that a request returned, or the error with which it failed; return the owner.

        An error does not replace tags that an earlier request returned.
        """
        if not isinstance(found, Exception):
            self.owner = owner_in(found, self._tag)
        elif self.owner is None or self.owner.unknown is not None:
            self.owner = Owner(unknown=str(explain_tags(found))[:_WHY_CHARACTERS])
        return self.owner


def explain_tags(error: Exception) -> SourceError:
    """Return the `SourceError` for an error of boto3 that occurred when the tags of an object were read.

    The text does not contain the name of the object, so that the objects with the same problem have the same
    text.
    """
    if isinstance(error, SourceError):
        return error
    if isinstance(error, ResponseParserError):
        # Another attempt gets the same answer, for example if a tag contains a control character. botocore's
        # message contains the tags, so it differs between objects.
        return UnreadableError(
            Reason.SERVER_ERROR,
            "the server's answer is malformed; a tag can contain a character that XML does not allow",
        )
    if isinstance(error, ClientError) and (
        http_status(error.response) in {405, 501} or error.response["Error"]["Code"] == "NotImplemented"
    ):
        return UnreadableError(
            Reason.REQUEST, "the storage does not support tags, or the version is a delete marker"
        )
    found = explain(error)
    if found.reason is not Reason.ACCESS_DENIED:
        return found
    needed = "s3:GetObjectTagging (for a version s3:GetObjectVersionTagging)"
    return UnreadableError(Reason.ACCESS_DENIED, f"reading the tags is denied; Keyhole needs {needed}")


def tags_of(
    s3: "S3Client", address: Address, before: Callable[[], object], failed: Callable[[Reason], object]
) -> dict[str, str]:
    """Return the tags of an object. Repeat the request if it failed for a temporary reason.

    `before` is called before each request, and `failed` after each failed request.

    Raises:
        SourceError: The tags cannot be read.
    """

    def read() -> dict[str, str]:
        before()
        try:
            return read_tags(s3, **address)
        except BOTO_ERRORS as error:
            found = explain_tags(error)
            failed(found.reason)
            raise found from error

    return retried(read)
