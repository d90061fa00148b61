"""The statuses and the reasons of verdicts, and the meaning of each in one line.

The `reasons` of a report are codes: names of checks (`keyhole.inspectors.findings.CHECKS`), or members of
`Reason`. The codes do not change between versions, because policies, tags and dashboards contain them.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Self

from keyhole.inspectors import facts
from keyhole.inspectors.findings import CHECKS


class Status(StrEnum):
    """The status of a verdict. Only an object with the status `SAFE` should be used."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    DAMAGED = "damaged"
    REJECTED = "rejected"
    UNRECOGNIZED = "unrecognized"
    INCONCLUSIVE = "inconclusive"
    UNREADABLE = "unreadable"
    FAILED = "failed"


#: The meaning of each status. The most urgent status comes first.
STATUSES: Final[dict[Status, str]] = {
    Status.UNSAFE: (
        "it refers to other files, uses features unknown to Keyhole, or is valid in two formats at once"
    ),
    Status.DAMAGED: "cut off, or its structures contradict each other or their checksums",
    Status.REJECTED: (
        "well formed, but the policy does not accept it, or Keyhole cannot check it, for example because it "
        "is encrypted"
    ),
    Status.INCONCLUSIVE: (
        "the budget ran out, the object kept changing, the needed part of a stream had already passed, or "
        "nothing proves that the image is whole"
    ),
    Status.FAILED: "Keyhole, S3 or the network failed, after all retries",
    Status.UNREADABLE: "missing, denied, archived, or encrypted with the customer's key",
    Status.UNRECOGNIZED: "not a disk image in a format that Keyhole recognises",
    Status.SAFE: "recognised, whole, and every check passed",
}
#: The position of each status in `STATUSES`: a lower number is more urgent.
URGENCY: Final = {status: place for place, status in enumerate(STATUSES)}


class Reason(StrEnum):
    """A reason for a status. Reasons that are names of checks are not members of this class."""

    #: The status of an object with this reason.
    status: Status
    #: The meaning of the reason, in one line for users.
    sentence: str

    def __new__(cls, code: str, status: Status, sentence: str) -> Self:
        """Return a member whose string value is `code`. Reports contain this string."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        member.sentence = sentence
        return member

    NOT_AN_IMAGE = (
        "not_an_image",
        Status.UNRECOGNIZED,
        "the object is another kind of file, such as a text or a PDF",
    )
    NO_KNOWN_FORMAT = "no_known_format", Status.UNRECOGNIZED, "Keyhole recognised no format in the object"
    ZEROS = "zeros", Status.UNRECOGNIZED, "Keyhole read only zeros"
    EMPTY = "empty", Status.UNRECOGNIZED, "the object is empty"
    SIZE_UNKNOWN = (
        "size_unknown",
        Status.INCONCLUSIVE,
        "recognised, but the virtual size of the disk is unknown or zero",
    )
    WHOLENESS_UNCHECKED = (
        "wholeness_unchecked",
        Status.INCONCLUSIVE,
        "recognised, but nothing proves that the image is whole",
    )
    MISSED = (
        "missed",
        Status.INCONCLUSIVE,
        "Keyhole needed a part of a stream that had already passed; read the object by ranges instead",
    )
    BUDGET = (
        "budget",
        Status.INCONCLUSIVE,
        "the scan's budget of requests, bytes, seconds or CPU time ran out, though the server answered",
    )
    DECOMPRESSION_LIMIT = (
        facts.DECOMPRESSION_LIMIT,
        Status.INCONCLUSIVE,
        "compressed, and the verdict depends on more data than the policy allows Keyhole to decompress",
    )
    OBJECT_CHANGED = (
        "object_changed",
        Status.INCONCLUSIVE,
        "the object was replaced repeatedly while Keyhole read it",
    )
    NOT_FOUND = "not_found", Status.UNREADABLE, "there is no such object"
    DELETE_MARKER = "delete_marker", Status.UNREADABLE, "this version is a delete marker"
    ACCESS_DENIED = (
        "access_denied",
        Status.UNREADABLE,
        "the server denies reading, or the object is missing and S3 denies listing",
    )
    BUCKET_NOT_ALLOWED = (
        "bucket_not_allowed",
        Status.UNREADABLE,
        "KEYHOLE_BUCKETS does not include the bucket; Keyhole sent no request",
    )
    ADDRESS_NOT_ALLOWED = (
        "address_not_allowed",
        Status.UNREADABLE,
        "the URL has a private address, no TLS or a proxy, and KEYHOLE_HTTPS_PRIVATE does not allow it",
    )
    ARCHIVED = "archived", Status.UNREADABLE, "archived; the object must be restored before it can be read"
    CUSTOMER_KEY = "customer_key", Status.UNREADABLE, "encrypted with the customer's key (SSE-C)"
    RANGE_IGNORED = (
        "range_ignored",
        Status.UNREADABLE,
        "the server ignores ranges, and Keyhole needs bytes far from the beginning",
    )
    UNREADABLE_FILE = "unreadable_file", Status.UNREADABLE, "Keyhole cannot read the local file"
    CREDENTIALS = "credentials", Status.FAILED, "there are no credentials, or S3 refuses them"
    CLOCK = "clock", Status.FAILED, "S3 refuses every request because this machine's clock is wrong"
    REQUEST = (
        "request",
        Status.FAILED,
        "the server refuses the request, or the configuration does not allow Keyhole to send it",
    )
    NETWORK = "network", Status.FAILED, "the network failed in every attempt"
    SERVER_ERROR = (
        "server_error",
        Status.FAILED,
        "the server answered every attempt with a server error or with something else, such as a login page",
    )
    SLOW_DOWN = (
        "slow_down",
        Status.FAILED,
        "the server answered every attempt with a demand for fewer requests",
    )
    TRUNCATED_BODY = (
        "truncated_body",
        Status.FAILED,
        "the server sent fewer bytes than it announced, in every attempt",
    )
    WRONG_RANGE = (
        "wrong_range",
        Status.FAILED,
        "the server sent a different range than Keyhole requested, in every attempt",
    )
    WORKER_LOST = (
        "worker_lost",
        Status.FAILED,
        "Keyhole sent the object's batch repeatedly, but no worker finished it",
    )
    POISON = "poison", Status.FAILED, "three worker processes died or hung while they scanned the object"
    MEMORY = "memory", Status.FAILED, "the scan needed memory that other scans in the same process were using"
    RATE = (
        "rate",
        Status.FAILED,
        "the rate limit for audits of the bucket left the scan too few requests",
    )
    INTERNAL_ERROR = (
        "internal_error",
        Status.FAILED,
        "a bug in Keyhole; the dead letter and the log show where",
    )


#: The reasons that mean that the object is certainly not a disk image. Figures count these objects apart
#: from the images that are not safe. The reasons `no_known_format` and `zeros` are not in this set, because
#: such an object can be an image in a format that Keyhole does not know, or an empty raw disk.
NOT_IMAGES: Final = frozenset({Reason.NOT_AN_IMAGE, Reason.EMPTY})
#: The reasons that mean that S3 has no such object or version.
MISSING: Final = frozenset({Reason.NOT_FOUND, Reason.DELETE_MARKER})

_SENTENCES: Final = {
    **{check: row.looks_for for check, row in CHECKS.items()},
    **{reason.value: reason.sentence for reason in Reason},
}


def not_an_image(status: Status, reasons: Sequence[str]) -> bool:
    """Return whether a verdict means that the object is certainly not a disk image, such as a PDF."""
    return status is Status.UNRECOGNIZED and bool(reasons) and NOT_IMAGES.issuperset(reasons)


def meaning(code: str) -> str:
    """Return the meaning of a reason's code; the code itself if this version does not define the reason."""
    return _SENTENCES.get(code, code)
