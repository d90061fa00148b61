"""The buckets that Keyhole may use, as glob patterns from the setting KEYHOLE_BUCKETS.

Keyhole checks a bucket when it accepts a job, again when a worker starts the job, and again before an S3
client reads the bucket (`S3Access.route`, `AllowedBuckets.guard`). So a forged message cannot cause a request
to another bucket.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from keyhole.inspectors.text import printable
from keyhole.reasons import Reason
from keyhole.sources.errors import UnreadableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class BucketNotAllowedError(UnreadableError):
    """KEYHOLE_BUCKETS does not allow this bucket. No request was sent."""

    is_usage = True

    def __init__(self, bucket: str) -> None:
        shown = printable(bucket.encode(errors="surrogatepass"))
        super().__init__(Reason.BUCKET_NOT_ALLOWED, f"KEYHOLE_BUCKETS does not allow the bucket '{shown}'")


@dataclass(frozen=True, slots=True)
class AllowedBuckets:
    """The glob patterns of the allowed buckets. An empty tuple allows all buckets.

    A pattern must match the whole name, and case matters. `*` matches any number of characters, `?` matches
    one character, and `[…]` matches one of the characters in brackets. For an access point, the pattern must
    match the name in the request: the alias or the whole ARN.
    """

    globs: tuple[str, ...] = ()

    def allow(self, bucket: str) -> bool:
        """Return whether Keyhole may use the bucket."""
        return not self.globs or any(fnmatchcase(bucket, glob) for glob in self.globs)

    def check(self, bucket: str) -> None:
        """Check that Keyhole may use a bucket.

        Raises:
            BucketNotAllowedError: Keyhole may not use the bucket.
        """
        if not self.allow(bucket):
            raise BucketNotAllowedError(bucket)

    def guard(self, client: "S3Client") -> None:
        """Make a client raise `BucketNotAllowedError` before it sends a request to a forbidden bucket."""
        if self.globs:
            client.meta.events.register("provide-client-params.s3", self._check_request)

    def _check_request(self, params: dict[str, Any], **_: object) -> None:  # boto3's values have many types
        if "Bucket" in params:
            self.check(str(params["Bucket"]))


ALL_BUCKETS: Final = AllowedBuckets()
