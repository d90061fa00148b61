"""The faults of an S3 server that a storm consists of, and how often they occur.

For every request, a storm's rules are asked in turn. A seed, the storm's name and the number of the request
within the storm decide whether a rule strikes, so the same storm strikes the same requests again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """The purpose of a request."""

    READ = "read"  # GET of an object
    LOOK = "look"  # HEAD of an object
    GET_TAGS = "get_tags"
    PUT_TAGS = "put_tags"  # PutObjectTagging and DeleteObjectTagging
    OTHER = "other"  # ListBuckets, with which workers check whether S3 can be used


READS = (Kind.READ,)
TAGGING = (Kind.LOOK, Kind.GET_TAGS, Kind.PUT_TAGS)
ALL = tuple(Kind)


class Fault(StrEnum):
    """One way to answer wrongly."""

    SLOW_DOWN = "slow_down"  # 503 SlowDown
    UNAVAILABLE = "unavailable"  # 503 ServiceUnavailable
    INTERNAL_ERROR = "internal_error"  # 500
    EXPIRED_TOKEN = "expired_token"  # 400
    SKEWED_CLOCK = "skewed_clock"  # 403 RequestTimeTooSkewed
    ACCESS_DENIED = "access_denied"  # 403
    RESET = "reset"  # the connection is reset before the answer
    BROKEN_OFF = "broken_off"  # the connection is reset in the middle of the body
    TRUNCATED = "truncated"  # the body ends early, and the connection is closed properly
    STALL = "stall"  # half of the body, then nothing more
    TRICKLE = "trickle"  # one byte a second
    WRONG_RANGE = "wrong_range"  # another range than the requested one, and the headers say so
    RANGE_IGNORED = "range_ignored"  # 200 and the whole object
    SWAP = "swap"  # the object is replaced before the answer
    SWAP_AFTER = "swap_after"  # the object is replaced after the answer
    LOST_ANSWER = "lost_answer"  # the request takes effect, and then the connection is reset


#: A refusal in HTTP: status and code.
REFUSALS = {
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.UNAVAILABLE: (503, "ServiceUnavailable"),
    Fault.INTERNAL_ERROR: (500, "InternalError"),
    Fault.EXPIRED_TOKEN: (400, "ExpiredToken"),
    Fault.SKEWED_CLOCK: (403, "RequestTimeTooSkewed"),
    Fault.ACCESS_DENIED: (403, "AccessDenied"),
}


@dataclass(frozen=True)
class Rule:
    """How often (0 to 1) a fault strikes requests of these kinds."""

    fault: Fault
    rate: float
    kinds: tuple[Kind, ...] = ALL


def drawn(rules: Sequence[Rule], seed: str, number: int, kind: Kind) -> Fault | None:
    """The fault that strikes the storm's request with this number, if one does."""
    if not rules:
        return None
    random = Random(f"{seed}/{number}")  # noqa: S311 - a seeded choice of faults
    for rule in rules:
        strikes = random.random() < rule.rate
        if strikes and kind in rule.kinds:
            return rule.fault
    return None
