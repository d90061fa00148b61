"""What the tasks and commands of one process need, made from its settings on first use."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from keyhole.api import s3_access
from keyhole.confinement.malloc import trim
from keyhole.intake.audits.prices import Prices, load_prices
from keyhole.intake.audits.store import AuditStore
from keyhole.intake.dead_letters import DeadLetters
from keyhole.intake.events.counters import EventCounters
from keyhole.jobs.breaker import Breaker
from keyhole.jobs.heartbeat import Heartbeat
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.liveness import Liveness
from keyhole.jobs.tag_debts import TagDebts
from keyhole.results.lookup import Lookup
from keyhole.results.redis_store import RedisStore
from keyhole.results.tag_writer import TagWriter
from keyhole.scan.memory import MemoryPool
from keyhole.scan.policy import ruleset
from keyhole.scan.process_lock import ProcessLock
from keyhole.settings import Settings
from keyhole.sources.allowed import AllowedBuckets
from keyhole.sources.s3 import S3Access
from keyhole.store.connection import connect

#: Seconds that an event loop waits for an answer of Redis, at most.
LOOP_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Services:
    """What the tasks of one process need, made on first use and not before a fork."""

    settings: Settings
    pid: int
    #: Called when scans of a bucket fail so often that it is given a rest.
    on_trouble: Callable[[], object] = lambda: None
    #: Whether an event loop waits for Redis, so that a command is given up soon.
    short_timeouts: bool = False
    #: Of the processes that were forked after it was made, which one may need more memory than its pool has.
    process_lock: ProcessLock | None = None

    @cached_property
    def redis(self) -> Any:  # noqa: ANN401 - redis-py's client is generic over what it decodes
        """The client of the records, of the ledger and of the audits."""
        if self.settings.redis_url is None:
            raise RuntimeError(
                "KEYHOLE_REDIS_URL is not set; `keyhole worker` starts an embedded Valkey without it"
            )
        if self.short_timeouts:
            return connect(self.settings.redis_url, answer_seconds=LOOP_SECONDS, retries=0)
        return connect(self.settings.redis_url)

    @property
    def s3(self) -> S3Access:
        """The way to S3."""
        return s3_access(self.settings)

    @property
    def buckets(self) -> AllowedBuckets:
        """The buckets that this process may touch."""
        return self.settings.allowed_buckets

    @cached_property
    def memory(self) -> MemoryPool:
        """What decoders and large maps of all scans of this process take."""
        return MemoryPool(self.settings.memory_bytes, self.process_lock, trim)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of accepted jobs."""
        return Ledger(self.redis, done_seconds=self.settings.done_seconds)

    @cached_property
    def heartbeat(self) -> Heartbeat:
        """Tells the ledger what this process is busy with."""
        return Heartbeat(self.ledger, self.liveness)

    @cached_property
    def liveness(self) -> Liveness:
        """The name of this process, and which others are alive."""
        return Liveness(self.redis)

    @cached_property
    def breaker(self) -> Breaker:
        """Which buckets this process does not scan for now."""
        return Breaker(on_open=self.on_trouble)

    @cached_property
    def store(self) -> RedisStore:
        """Where verdicts are kept."""
        return RedisStore(
            self.redis,
            expiry_seconds=self.settings.record_seconds or None,
            stream_length=self.settings.stream_length,
        )

    @cached_property
    def lookup(self) -> Lookup:
        """Finds verdicts by the thousand."""
        return Lookup(self.redis)

    @cached_property
    def audits(self) -> AuditStore:
        """Where audits are kept."""
        return AuditStore(self.redis, expiry_seconds=self.settings.audit_seconds or None)

    @cached_property
    def event_counters(self) -> EventCounters:
        """The counters of events."""
        return EventCounters(self.redis)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """What could not be worked on."""
        return DeadLetters(self.redis)

    @cached_property
    def tags(self) -> TagWriter:
        """Writes verdicts as object tags."""
        return TagWriter(self.s3.client)

    @cached_property
    def tag_debts(self) -> TagDebts:
        """Which objects are to have which tags, and do not have them yet."""
        return TagDebts(self.redis)

    @cached_property
    def prices(self) -> Prices:
        """What requests cost."""
        return load_prices(self.settings.prices)

    @cached_property
    def ruleset(self) -> str:
        """By which rules a verdict of this process is made."""
        return ruleset(self.settings.scan.policy)


_services: Services | None = None


def services() -> Services:
    """This process's services; a forked child makes its own, with the settings of its parent."""
    global _services  # noqa: PLW0603 - one per process is the point
    if _services is None:
        _services = Services(Settings(), os.getpid())
    elif _services.pid != os.getpid():
        _services = Services(
            _services.settings, os.getpid(), _services.on_trouble, process_lock=_services.process_lock
        )
    return _services


def use_settings(
    settings: Settings,
    on_trouble: Callable[[], object] = lambda: None,
    *,
    short_timeouts: bool = False,
    process_lock: ProcessLock | None = None,
) -> None:
    """Take other settings than the environment's, as with the embedded Valkey.

    A worker's main process is short_timeouts. The processes that it forks are not: they have no event loop.
    """
    global _services  # noqa: PLW0603 - one per process is the point
    _services = Services(settings, os.getpid(), on_trouble, short_timeouts, process_lock)
