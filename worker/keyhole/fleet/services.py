"""The services that the tasks and commands of one process share, made from its settings on first use."""

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

#: The longest time in seconds that an event loop waits for an answer from Redis.
LOOP_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Services:
    """The services of one process. Each is made on first use, and not before a fork."""

    settings: Settings
    pid: int
    #: Called when the circuit breaker of a bucket opens.
    on_trouble: Callable[[], object] = lambda: None
    #: Whether an event loop waits for Redis, so that commands time out soon and are not retried.
    short_timeouts: bool = False
    #: The lock that a process must hold to use more memory than its pool has. Forked processes share it.
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
        """The access to S3."""
        return s3_access(self.settings)

    @property
    def buckets(self) -> AllowedBuckets:
        """The buckets that this process may touch."""
        return self.settings.allowed_buckets

    @cached_property
    def memory(self) -> MemoryPool:
        """The memory that the scans of this process share for decoders and large maps."""
        return MemoryPool(self.settings.memory_bytes, self.process_lock, trim)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of accepted jobs."""
        return Ledger(self.redis, done_seconds=self.settings.done_seconds)

    @cached_property
    def heartbeat(self) -> Heartbeat:
        """The heartbeat of this process."""
        return Heartbeat(self.ledger, self.liveness)

    @cached_property
    def liveness(self) -> Liveness:
        """The name of this process, and whether others are alive."""
        return Liveness(self.redis)

    @cached_property
    def breaker(self) -> Breaker:
        """The circuit breakers of the buckets that this process scans."""
        return Breaker(on_open=self.on_trouble)

    @cached_property
    def store(self) -> RedisStore:
        """The store of verdicts."""
        return RedisStore(
            self.redis,
            expiry_seconds=self.settings.record_seconds or None,
            stream_length=self.settings.stream_length,
        )

    @cached_property
    def lookup(self) -> Lookup:
        """Finds many verdicts at once."""
        return Lookup(self.redis)

    @cached_property
    def audits(self) -> AuditStore:
        """The store of audits."""
        return AuditStore(self.redis, expiry_seconds=self.settings.audit_seconds or None)

    @cached_property
    def event_counters(self) -> EventCounters:
        """The counters of events."""
        return EventCounters(self.redis)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """The dead letters."""
        return DeadLetters(self.redis)

    @cached_property
    def tags(self) -> TagWriter:
        """Writes verdicts as object tags."""
        return TagWriter(self.s3.client)

    @cached_property
    def tag_debts(self) -> TagDebts:
        """The tag debts: tags that objects are to have."""
        return TagDebts(self.redis)

    @cached_property
    def prices(self) -> Prices:
        """The price table of S3 requests."""
        return load_prices(self.settings.prices)

    @cached_property
    def ruleset(self) -> str:
        """The rules by which this process makes verdicts."""
        return ruleset(self.settings.scan.policy)


_services: Services | None = None


def services() -> Services:
    """Return this process's services. A forked child makes its own, with the settings of its parent."""
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
    """Use other settings than those of the environment, for example with the embedded Valkey.

    A worker's main process uses short timeouts. The processes that it forks do not: they have no event loop.
    """
    global _services  # noqa: PLW0603 - one per process is the point
    _services = Services(settings, os.getpid(), on_trouble, short_timeouts, process_lock)
