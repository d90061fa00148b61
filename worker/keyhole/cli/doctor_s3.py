"""The doctor's checks of S3: the credentials, and the permissions to list, to read and to read tags.

The checks of listing, reading and tags send one request each, and change nothing. Only the check of reading
repeats its request after a transient error.
"""

from collections.abc import Iterator

from keyhole.api import s3_access
from keyhole.cli.doctor_check import ANSWER_SECONDS, SLOW
from keyhole.cli.findings import ADVICE, BAD, GOOD, Finding
from keyhole.inspectors.text import shown
from keyhole.reasons import Reason
from keyhole.settings import Settings
from keyhole.sources.allowed import BucketNotAllowedError
from keyhole.sources.deadline import deadline
from keyhole.sources.errors import BudgetExhaustedError, SourceError, TransientError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import S3Source
from keyhole.sources.s3_refusal import BOTO_ERRORS, explain
from keyhole.sources.s3_uri import S3Uri

#: The error that is reported for a request that took too long.
UNANSWERED = TransientError(
    Reason.NETWORK,
    f"no answer within {ANSWER_SECONDS:g} s; check KEYHOLE_S3_ENDPOINT_URL, the proxy and the firewall",
)
_SEE_DOCTOR = "; see `keyhole doctor`"


def of_s3(settings: Settings) -> Iterator[Finding]:
    """Yield findings on the endpoint and the credentials. If S3 cannot be used, the first finding is bad."""
    access = s3_access(settings)
    try:
        client = access.client
        method = access.credentials_from
    except SourceError as error:
        yield Finding("s3", BAD, told(error))
        return
    yield Finding("s3", GOOD, f"{client.meta.endpoint_url}, region {client.meta.region_name}")
    if method is None:
        advice = (
            "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run where a role is attached"
        )
        yield Finding("credentials", BAD, f"none found: {advice}")
    else:
        yield Finding("credentials", GOOD, f"found by {method}")


def why_not_tried(settings: Settings, place: S3Uri) -> Finding | None:
    """Return a bad finding if the settings do not allow Keyhole to access a bucket; otherwise `None`."""
    if settings.allowed_buckets.allow(place.bucket):
        return None
    return Finding("bucket", BAD, str(BucketNotAllowedError(place.bucket)))


def of_listing(settings: Settings, place: S3Uri, keys: list[str]) -> Iterator[Finding]:
    """Yield a finding on whether the bucket can be listed.

    If the bucket can be listed, add the first key below the prefix to `keys`.
    """
    try:
        with deadline(ANSWER_SECONDS) as timer:
            page = s3_access(settings).client.list_objects_v2(
                Bucket=place.bucket, Prefix=place.key, MaxKeys=1
            )
    except BOTO_ERRORS as error:
        found = UNANSWERED if timer.expired else explain(error)
        if found.reason == Reason.ACCESS_DENIED:
            advice = "Keyhole needs s3:ListBucket for -r, and to distinguish missing from denied objects"
            yield Finding("list", ADVICE, f"{told(found)}; {advice}")
        else:
            yield Finding("list", BAD, told(found))
    else:
        keys += [entry["Key"] for entry in page.get("Contents", [])]
        yield Finding("list", GOOD, f"s3://{place.bucket}/ can be listed")


class Reading:
    """The check whether an object can be read. It sends the GET request that a scan sends first."""

    def __init__(self, settings: Settings, bucket: str, key: str) -> None:
        self._settings, self._bucket, self._key = settings, bucket, key
        self._meter: Meter | None = None

    def findings(self) -> Iterator[Finding]:
        """Yield a finding on whether the object can be read."""
        self._meter = meter = Meter(Budget(seconds=ANSWER_SECONDS))
        name = shown(self._key)
        try:
            access = s3_access(self._settings)
            source = S3Source(access, self._bucket, self._key, version_id=None, meter=meter)
            source.read(0, self._settings.head_bytes)
        except BudgetExhaustedError:
            why = self.why_late()
            yield Finding("read", BAD, f"{name}: not read within {ANSWER_SECONDS:g} s: {why}")
        except SourceError as error:
            yield Finding("read", BAD, f"{name}: {told(error)}")
        else:
            size = source.identity.size if source.identity else 0
            requests = f"{meter.requests} request{'' if meter.requests == 1 else 's'}"
            yield Finding("read", GOOD, f"{name}: can be read, {size:,} bytes in all, {requests}")

    def why_late(self) -> str:
        """Return the last failure of the server or the network, after which the check tried again."""
        trouble = None if self._meter is None else self._meter.trouble
        return SLOW["read"] if trouble is None else told(trouble)


def of_tags(settings: Settings, bucket: str, key: str) -> Iterator[Finding]:
    """Yield a finding on whether an object's tags can be read."""
    try:
        with deadline(ANSWER_SECONDS) as timer:
            count = len(s3_access(settings).client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"])
    except BOTO_ERRORS as error:
        found = UNANSWERED if timer.expired else explain(error)
        fault = isinstance(found, TransientError) or "tags" in settings.sinks
        yield Finding(
            "tags",
            BAD if fault else ADVICE,
            f"cannot be read ({told(found)}); Keyhole needs s3:GetObjectTagging",
        )
        return
    yield Finding(
        "tags",
        GOOD,
        f"{count} of 10 in use; the doctor does not try to write tags (s3:PutObjectTagging)",
    )


def told(error: SourceError) -> str:
    """Return an error's message without the advice to run `keyhole doctor`, because the doctor is running."""
    return str(error).removesuffix(_SEE_DOCTOR)
