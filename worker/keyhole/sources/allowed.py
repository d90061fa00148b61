"""The buckets that Keyhole may touch, as globs: the setting KEYHOLE_BUCKETS.

They are checked when work is accepted, again by the worker, and finally by the S3 clients themselves
(`AllowedBuckets.guard`). So no message can cause a request to another bucket.
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
    """Keyhole may not touch this bucket. No request was sent to it."""

    is_usage = True

    def __init__(self, bucket: str) -> None:
        shown = printable(bucket.encode(errors="surrogatepass"))
        super().__init__(Reason.BUCKET_NOT_ALLOWED, f"KEYHOLE_BUCKETS does not allow the bucket '{shown}'")


@dataclass(frozen=True, slots=True)
class AllowedBuckets:
    """Globs of buckets; without any, all buckets are allowed.

    A glob matches a whole name, and case matters. `*` is any text, `?` one character, `[…]` one of several.
    An access point is matched by the name that is used for it: its alias or its whole ARN.
    """

    globs: tuple[str, ...] = ()

    def allow(self, bucket: str) -> bool:
        """Return whether Keyhole may touch the bucket."""
        return not self.globs or any(fnmatchcase(bucket, glob) for glob in self.globs)

    def check(self, bucket: str) -> None:
        """Refuse a bucket that Keyhole may not touch.

        Raises:
            BucketNotAllowedError: Keyhole may not touch it.
        """
        if not self.allow(bucket):
            raise BucketNotAllowedError(bucket)

    def guard(self, client: "S3Client") -> None:
        """Make a client raise `BucketNotAllowedError` instead of sending a request to another bucket."""
        if self.globs:
            client.meta.events.register("provide-client-params.s3", self._check_request)

    def _check_request(self, params: dict[str, Any], **_: object) -> None:  # boto3's own mix of types
        if "Bucket" in params:
            self.check(str(params["Bucket"]))


ALL_BUCKETS: Final = AllowedBuckets()
