"""The services that all tasks and commands of one process share, such as clients and stores."""

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
from keyhole.results.sinks.notifier import Notifier
from keyhole.results.tag_writer import TagWriter
from keyhole.scan.memory import MemoryPool
from keyhole.scan.policy import ruleset
from keyhole.scan.process_lock import ProcessLock
from keyhole.settings import Settings
from keyhole.sources.allowed import AllowedBuckets
from keyhole.sources.s3_access import S3Access
from keyhole.store.connection import connect
from keyhole.store.round_trips import RoundTrips

#: The maximum number of seconds for which an event loop waits for an answer from Redis. While it waits, the
#: loop is blocked.
LOOP_SECONDS: Final = 3.0


@dataclass(frozen=True)
class Services:
    """The services of one process, built from its settings.

    Each service is created on first use. A forked process must not use its parent's services; the function
    `services` creates new ones.
    """

    settings: Settings
    pid: int
    #: This function is called whenever the circuit breaker of a bucket opens, and whenever a probe of an open
    #: breaker fails.
    on_trouble: Callable[[], object] = lambda: None
    #: Whether this process has an event loop that waits for Redis. If so, the timeouts of Redis commands are
    #: short, and failed commands are not repeated.
    short_timeouts: bool = False
    #: If a scan needs more memory than the process's pool (`memory`) contains, the process must first acquire
    #: this lock. All processes of a worker share the lock.
    process_lock: ProcessLock | None = None

    @cached_property
    def redis(self) -> Any:  # noqa: ANN401 - redis-py's client is generic over the type of its answers
        """The Redis client for the records, the ledger and the audits."""
        if self.settings.redis_url is None:
            raise RuntimeError(
                "KEYHOLE_REDIS_URL is not set; set it, or run `keyhole worker` to start an embedded Valkey"
            )
        if self.short_timeouts:
            return connect(self.settings.redis_url, answer_seconds=LOOP_SECONDS, retries=0)
        return connect(self.settings.redis_url)

    @cached_property
    def round_trips(self) -> RoundTrips:
        """Sends the Redis scripts of several threads of this process in one round trip."""
        return RoundTrips(self.redis)

    @property
    def s3(self) -> S3Access:
        """The access to S3 that all scans of this process share."""
        return s3_access(self.settings)

    @property
    def buckets(self) -> AllowedBuckets:
        """The buckets that the settings allow."""
        return self.settings.allowed_buckets

    @cached_property
    def memory(self) -> MemoryPool:
        """The pool of memory for decoders and large maps that the scans of this process share."""
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
        """Gives this process a name, and reports which other processes are alive."""
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
            notifier=self.notifier,
        )

    @cached_property
    def notifier(self) -> Notifier:
        """Decides which sinks get an event about a verdict."""
        return Notifier(self.settings.event_sinks, self.settings.notify_statuses)

    @cached_property
    def lookup(self) -> Lookup:
        """Reads many verdicts in one request."""
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
        """The store of tag debts, which record the tags that objects should get."""
        return TagDebts(self.redis)

    @cached_property
    def prices(self) -> Prices:
        """The table of prices of S3 requests."""
        return load_prices(self.settings.prices)

    @cached_property
    def ruleset(self) -> str:
        """The name and version of the rules that this process applies, as in `Report.ruleset`."""
        return ruleset(self.settings.scan.policy)


_services: Services | None = None


def services() -> Services:
    """Return the services of this process. A forked process gets new services with its parent's settings."""
    global _services  # noqa: PLW0603 - each process needs exactly one
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
    """Set the settings of this process's services. Without this call, the settings come from the environment.

    For example, a command with an embedded Valkey must set the URL of that Valkey. `Services` describes the
    arguments. A worker's main process sets `short_timeouts`, because it has an event loop. The pool processes
    that it forks get services without `short_timeouts`, because they have no event loop.
    """
    global _services  # noqa: PLW0603 - each process needs exactly one
    _services = Services(settings, os.getpid(), on_trouble, short_timeouts, process_lock)
