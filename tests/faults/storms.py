"""The storms: which faults of S3, of workers and of Valkey occur together, and how often."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.faults.s3_faults import ALL, READS, TAGGING, Fault, Kind, Rule


class Strike(StrEnum):
    """An event that hits a process."""

    KILL_CHILD = "kill_child"  # SIGKILL to a scanning process
    KILL_WORKER = "kill_worker"  # SIGKILL to a worker, which is restarted
    STOP_WORKER = "stop_worker"  # SIGTERM to a worker, which is restarted
    FREEZE_CHILD = "freeze_child"  # SIGSTOP to a scanning process, and SIGCONT some seconds later
    FREEZE_WORKER = "freeze_worker"  # SIGSTOP and SIGCONT to a worker's main process
    KILL_VALKEY = "kill_valkey"  # SIGKILL to Valkey, which is restarted
    CUT_AOF = "cut_aof"  # SIGKILL to Valkey, which is restarted without the end of its append-only file
    FREEZE_VALKEY = "freeze_valkey"  # SIGSTOP to Valkey, and SIGCONT some seconds later


@dataclass(frozen=True)
class Striking:
    """A strike, and its average interval in seconds."""

    strike: Strike
    every: float


@dataclass(frozen=True)
class Storm:
    """Faults that occur together."""

    name: str
    rules: tuple[Rule, ...] = ()
    strikes: tuple[Striking, ...] = ()


def _of(fault: Fault, rate: float, kinds: tuple[Kind, ...] = ALL) -> Storm:
    return Storm(fault.value, (Rule(fault, rate, kinds),))


def _strike(strike: Strike, every: float) -> Storm:
    return Storm(strike.value, strikes=(Striking(strike, every),))


#: One storm for each fault, and storms for errors that need two faults at once.
STORMS: tuple[Storm, ...] = (
    _of(Fault.SLOW_DOWN, 1.0),
    _of(Fault.UNAVAILABLE, 0.7),
    _of(Fault.INTERNAL_ERROR, 1.0),
    _of(Fault.EXPIRED_TOKEN, 1.0),
    _of(Fault.SKEWED_CLOCK, 1.0),
    _of(Fault.ACCESS_DENIED, 0.5),
    _of(Fault.RESET, 1.0),
    _of(Fault.BROKEN_OFF, 0.8),
    _of(Fault.TRUNCATED, 0.8, READS),
    _of(Fault.STALL, 0.03),
    _of(Fault.TRICKLE, 0.03),
    _of(Fault.WRONG_RANGE, 1.0, READS),
    _of(Fault.RANGE_IGNORED, 0.5, READS),
    Storm("swaps", (Rule(Fault.SWAP, 0.05), Rule(Fault.SWAP_AFTER, 0.05))),
    Storm(
        "tags",
        (
            Rule(Fault.INTERNAL_ERROR, 0.5, TAGGING),
            Rule(Fault.ACCESS_DENIED, 0.2, TAGGING),
            Rule(Fault.LOST_ANSWER, 0.3, (Kind.PUT_TAGS,)),
        ),
    ),
    Storm(
        "tags of swapped objects",
        (
            Rule(Fault.SWAP, 0.1, TAGGING),
            Rule(Fault.SWAP_AFTER, 0.1, TAGGING),
            Rule(Fault.LOST_ANSWER, 0.2, (Kind.PUT_TAGS,)),
            Rule(Fault.UNAVAILABLE, 0.2, TAGGING),
        ),
        (Striking(Strike.KILL_CHILD, 4.0),),
    ),
    _strike(Strike.KILL_CHILD, 3.0),
    _strike(Strike.KILL_WORKER, 8.0),
    _strike(Strike.STOP_WORKER, 10.0),
    _strike(Strike.FREEZE_CHILD, 8.0),
    _strike(Strike.FREEZE_WORKER, 10.0),
    _strike(Strike.KILL_VALKEY, 10.0),
    _strike(Strike.CUT_AOF, 12.0),
    _strike(Strike.FREEZE_VALKEY, 12.0),
    Storm(
        "all at once",
        (
            Rule(Fault.UNAVAILABLE, 0.1),
            Rule(Fault.RESET, 0.1),
            Rule(Fault.TRUNCATED, 0.1),
            Rule(Fault.SWAP, 0.03),
            Rule(Fault.LOST_ANSWER, 0.1, (Kind.PUT_TAGS,)),
            Rule(Fault.STALL, 0.005),
        ),
        (
            Striking(Strike.KILL_CHILD, 6.0),
            Striking(Strike.KILL_WORKER, 20.0),
            Striking(Strike.CUT_AOF, 20.0),
            Striking(Strike.FREEZE_CHILD, 20.0),
        ),
    ),
)

#: Storms in which S3 cannot be used. While such a storm lasts, no verdict is possible.
OUTAGES: tuple[Storm, ...] = tuple(
    replace(_of(fault, 1.0, kinds), name=f"outage: {fault.value}")
    for fault, kinds in (
        (Fault.SLOW_DOWN, ALL),
        (Fault.EXPIRED_TOKEN, ALL),
        (Fault.INTERNAL_ERROR, ALL),
        (Fault.SKEWED_CLOCK, ALL),
        (Fault.RESET, ALL),
        (Fault.TRUNCATED, READS),
        (Fault.WRONG_RANGE, READS),
    )
)

#: The storms that a worker and its Redis must survive for hours without a restart.
LASTING = frozenset(
    storm.name
    for storm in STORMS
    if {striking.strike for striking in storm.strikes} <= {Strike.KILL_VALKEY, Strike.FREEZE_VALKEY}
)


def squalls(count: int, *, rate: float, every: float) -> list[Storm]:
    """Combine all storms into a few, with each fault so rare that work continues.

    Args:
        count: The number of combined storms.
        rate: The share of requests that S3's faults strike in total. Each fault has an equal part of it.
        every: The average interval between two strikes of a kind, in seconds.
    """
    return [_together(f"squall {number + 1}", STORMS[number::count], rate, every) for number in range(count)]


def _together(name: str, storms: Sequence[Storm], rate: float, every: float) -> Storm:
    rules = [rule for storm in storms for rule in storm.rules]
    strikes = sorted({striking.strike for storm in storms for striking in storm.strikes})
    return Storm(
        name,
        tuple(replace(rule, rate=rate / len(rules)) for rule in rules),
        tuple(Striking(strike, every) for strike in strikes),
    )


def named(storms: Iterable[Storm], names: Iterable[str]) -> list[Storm]:
    """Return the storms with these names, or all storms.

    Raises:
        ValueError: No storm has one of the names.
    """
    by_name = {storm.name: storm for storm in storms}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise ValueError(f"no storm has the name {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names] or list(by_name.values())
