"""The faults of S3 in a storm, and how often they occur.

For every request, the server tries the storm's rules in order. A seed, the storm's name and the number of the
request within the storm decide whether a rule strikes, so a repeated storm strikes the same requests.
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
    """One kind of wrong answer."""

    SLOW_DOWN = "slow_down"  # 503 SlowDown
    UNAVAILABLE = "unavailable"  # 503 ServiceUnavailable
    INTERNAL_ERROR = "internal_error"  # 500
    EXPIRED_TOKEN = "expired_token"  # 400
    SKEWED_CLOCK = "skewed_clock"  # 403 RequestTimeTooSkewed
    ACCESS_DENIED = "access_denied"  # 403
    RESET = "reset"  # resets the connection before the answer
    BROKEN_OFF = "broken_off"  # resets the connection in the middle of the body
    TRUNCATED = "truncated"  # ends the body early, and closes the connection properly
    STALL = "stall"  # sends half of the body, and then nothing
    TRICKLE = "trickle"  # sends one byte per second
    WRONG_RANGE = "wrong_range"  # sends another range than the requested one, with the matching headers
    RANGE_IGNORED = "range_ignored"  # sends 200 and the whole object
    SWAP = "swap"  # replaces the object before the answer
    SWAP_AFTER = "swap_after"  # replaces the object after the answer
    LOST_ANSWER = "lost_answer"  # executes the request, and then resets the connection


#: The HTTP status and the error code of a refusal.
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
    """How often a fault strikes requests of these kinds, from 0 to 1."""

    fault: Fault
    rate: float
    kinds: tuple[Kind, ...] = ALL


def drawn(rules: Sequence[Rule], seed: str, number: int, kind: Kind) -> Fault | None:
    """The fault that strikes the request with this number within the storm, or `None`."""
    if not rules:
        return None
    random = Random(f"{seed}/{number}")  # noqa: S311 - a seeded choice of faults
    for rule in rules:
        strikes = random.random() < rule.rate
        if strikes and kind in rule.kinds:
            return rule.fault
    return None
