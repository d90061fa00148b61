"""The buckets that Keyhole may touch, as globs: the setting KEYHOLE_BUCKETS.

They are checked where work is accepted, again by the worker that does it, and last by the clients of S3
themselves (`AllowedBuckets.guard`): whatever a message says, no request names another bucket.
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
    """The bucket is not one that Keyhole may touch. Nothing was asked of it."""

    is_usage = True

    def __init__(self, bucket: str) -> None:
        shown = printable(bucket.encode(errors="surrogatepass"))
        super().__init__(Reason.BUCKET_NOT_ALLOWED, f"KEYHOLE_BUCKETS does not allow the bucket '{shown}'")


@dataclass(frozen=True, slots=True)
class AllowedBuckets:
    """Globs of buckets; without any, all buckets are allowed.

    A glob matches a whole name, and upper and lower case differ. `*` is any text, `?` one character, `[…]`
    one of several. An access point is matched as it is named, by its alias or its whole ARN.
    """

    globs: tuple[str, ...] = ()

    def allow(self, bucket: str) -> bool:
        """Whether Keyhole may touch the bucket."""
        return not self.globs or any(fnmatchcase(bucket, glob) for glob in self.globs)

    def check(self, bucket: str) -> None:
        """Do nothing if Keyhole may touch the bucket.

        Raises:
            BucketNotAllowedError: It may not.
        """
        if not self.allow(bucket):
            raise BucketNotAllowedError(bucket)

    def guard(self, client: "S3Client") -> None:
        """Make a client raise `BucketNotAllowedError` instead of asking for anything in another bucket."""
        if self.globs:
            client.meta.events.register("provide-client-params.s3", self._check_request)

    def _check_request(self, params: dict[str, Any], **_: object) -> None:  # boto3's own mix of types
        if "Bucket" in params:
            self.check(str(params["Bucket"]))


ALL_BUCKETS: Final = AllowedBuckets()
