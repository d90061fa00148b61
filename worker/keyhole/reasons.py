"""The statuses and the reasons of verdicts, and what each means in one line.

A report's `reasons` are codes: the checks that decided (`keyhole.inspectors.findings.CHECKS`), or one of the
reasons here. The codes are stable: policies, tags and dashboards name them.
"""

from enum import StrEnum
from typing import Final, Self

from keyhole.inspectors import facts
from keyhole.inspectors.findings import CHECKS


class Status(StrEnum):
    """The verdict. Only `SAFE` lets anyone in."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    DAMAGED = "damaged"
    REJECTED = "rejected"
    UNRECOGNIZED = "unrecognized"
    INCONCLUSIVE = "inconclusive"
    UNREADABLE = "unreadable"
    FAILED = "failed"


#: What each status means. The most urgent comes first.
STATUSES: Final[dict[Status, str]] = {
    Status.UNSAFE: (
        "it refers to something outside itself, uses features unknown to Keyhole, or is two formats at once"
    ),
    Status.DAMAGED: "cut off, or its structures contradict each other or their checksums",
    Status.REJECTED: "well formed, but the policy does not accept it as it is",
    Status.INCONCLUSIVE: (
        "the budget ran out, the object kept changing, a stream passed what was wanted, or nothing proves it "
        "whole"
    ),
    Status.FAILED: "Keyhole, S3 or the network failed, after all retries",
    Status.UNREADABLE: "missing, denied, archived, or encrypted with the customer's key",
    Status.UNRECOGNIZED: "not a disk image that Keyhole knows",
    Status.SAFE: "recognised, whole, and every check passed",
}
#: Each status's place in that order.
URGENCY: Final = {status: place for place, status in enumerate(STATUSES)}


class Reason(StrEnum):
    """Why an object has its status, where no check decided it."""

    #: The status that it leads to.
    status: Status
    #: What it means, in one line for people.
    sentence: str

    def __new__(cls, code: str, status: Status, sentence: str) -> Self:
        """Make a member of its code, as reports carry it."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        member.sentence = sentence
        return member

    NOT_AN_IMAGE = "not_an_image", Status.UNRECOGNIZED, "something else, such as a text or a PDF"
    NO_KNOWN_FORMAT = "no_known_format", Status.UNRECOGNIZED, "nothing was recognised in it"
    ZEROS = "zeros", Status.UNRECOGNIZED, "only zeros were seen in it"
    EMPTY = "empty", Status.UNRECOGNIZED, "the object is empty"
    SIZE_UNKNOWN = (
        "size_unknown",
        Status.INCONCLUSIVE,
        "recognised, but the size of its disk is unknown or zero",
    )
    WHOLENESS_UNCHECKED = (
        "wholeness_unchecked",
        Status.INCONCLUSIVE,
        "recognised, but nothing proves that it is whole",
    )
    MISSED = (
        "missed",
        Status.INCONCLUSIVE,
        "a stream had passed a part before it was needed; read the object by range",
    )
    BUDGET = (
        "budget",
        Status.INCONCLUSIVE,
        "the scan's budget of requests, bytes, seconds or CPU time ran out, though S3 answered every request",
    )
    DECOMPRESSION_LIMIT = (
        facts.DECOMPRESSION_LIMIT,
        Status.INCONCLUSIVE,
        "compressed, and the verdict needs more of it than the policy allows to decompress",
    )
    OBJECT_CHANGED = (
        "object_changed",
        Status.INCONCLUSIVE,
        "it was replaced again and again while it was read",
    )
    NOT_FOUND = "not_found", Status.UNREADABLE, "there is no such object"
    DELETE_MARKER = "delete_marker", Status.UNREADABLE, "the version is a delete marker"
    ACCESS_DENIED = (
        "access_denied",
        Status.UNREADABLE,
        "reading is denied, or the object is missing and listing is denied",
    )
    BUCKET_NOT_ALLOWED = (
        "bucket_not_allowed",
        Status.UNREADABLE,
        "KEYHOLE_BUCKETS does not allow its bucket; no request was sent",
    )
    ARCHIVED = "archived", Status.UNREADABLE, "archived; it must be restored before it can be read"
    CUSTOMER_KEY = "customer_key", Status.UNREADABLE, "encrypted with the customer's key (SSE-C)"
    RANGE_IGNORED = (
        "range_ignored",
        Status.UNREADABLE,
        "the server ignores ranges, and what is needed lies far from the front",
    )
    UNREADABLE_FILE = "unreadable_file", Status.UNREADABLE, "the local file cannot be read"
    CREDENTIALS = "credentials", Status.FAILED, "there are no credentials, or S3 refuses them"
    CLOCK = "clock", Status.FAILED, "S3 refuses every request because this machine's clock is wrong"
    REQUEST = "request", Status.FAILED, "S3 refuses the request, or the request cannot be made"
    NETWORK = "network", Status.FAILED, "the network failed in all retries"
    SERVER_ERROR = "server_error", Status.FAILED, "the server failed in all retries"
    SLOW_DOWN = "slow_down", Status.FAILED, "the server asked for fewer requests in all retries"
    TRUNCATED_BODY = (
        "truncated_body",
        Status.FAILED,
        "every time, the server sent fewer bytes than it announced",
    )
    WRONG_RANGE = (
        "wrong_range",
        Status.FAILED,
        "every time, the server sent another range than the one asked for",
    )
    WORKER_LOST = (
        "worker_lost",
        Status.FAILED,
        "its batch was sent again and again, and no worker finished it",
    )
    POISON = "poison", Status.FAILED, "three worker processes were lost while they scanned it"
    MEMORY = "memory", Status.FAILED, "other scans of the worker used the memory that it needed"
    RATE = (
        "rate",
        Status.FAILED,
        "the bucket's audits wanted more requests than their rate allows in the time of a scan",
    )
    INTERNAL_ERROR = (
        "internal_error",
        Status.FAILED,
        "Keyhole has a bug; the dead letter and the log say where",
    )


#: S3 says that the object, or the version, is not there.
MISSING: Final = frozenset({Reason.NOT_FOUND, Reason.DELETE_MARKER})

_SENTENCES: Final = {
    **{check: row.looks_for for check, row in CHECKS.items()},
    **{reason.value: reason.sentence for reason in Reason},
}


def meaning(code: str) -> str:
    """Return what a reason's code means; the code itself if only a later version knows it."""
    return _SENTENCES.get(code, code)
