"""Reads what the pages show from Redis. It writes nothing."""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

import redis

from keyhole.dashboard.attention import Matter, matters
from keyhole.intake.audits.audit import Audit
from keyhole.intake.audits.reader import AuditReader
from keyhole.intake.dead_letters import DeadLetter, DeadLetters
from keyhole.jobs.tag_debts import TagDebts
from keyhole.metrics.snapshot import Rates, Snapshot
from keyhole.reasons import Status
from keyhole.results.history import Past, history
from keyhole.results.record import CorruptRecordError
from keyhole.results.redis_store import RedisStore
from keyhole.results.search import Filter, Page, Search
from keyhole.scan.report import Report

#: The numbers of verdicts on the first page, and of audits and dead letters on their pages.
LATEST, MOST_AUDITS, MOST_LETTERS = 10, 50, 100
#: The statuses of the verdicts that the first page lists on their own.
NOT_USABLE: Final = (Status.UNSAFE, Status.DAMAGED, Status.FAILED, Status.INCONCLUSIVE)


class Fleet(NamedTuple):
    """The status of the queues, the workers and the audits, and the rates of the audits."""

    snapshot: Snapshot
    rates: Rates
    matters: list[Matter]


class Overview(NamedTuple):
    """What the first page shows."""

    fleet: Fleet
    counts: dict[Status, int]
    latest: tuple[Report, ...]
    not_usable: tuple[Report, ...]


class ObjectView(NamedTuple):
    """What Keyhole knows about one object. `trouble` is the error if the record cannot be read."""

    report: Report | None
    past: list[Past]
    owed: bool
    trouble: str | None = None


class Reader:
    """Reads what the pages show.

    Args:
        client: A client from `keyhole.store.connection.connect`.
        read_status: Reads the status of the queues, the workers and the audits.
    """

    def __init__(self, client: redis.Redis, read_status: Callable[[], Snapshot]) -> None:
        self._client = client
        self._read_status = read_status
        self._rates = Rates()
        self._lock = threading.Lock()
        self._search = Search(client)
        # Without an expiry, the store removes nothing from the indexes, so it only reads.
        self._store = RedisStore(client, expiry_seconds=None, stream_length=1)
        self._audits = AuditReader(client)
        self._letters = DeadLetters(client)
        self._tags = TagDebts(client)

    def ping(self) -> None:
        """Raise `redis.RedisError` if Redis does not answer."""
        self._client.ping()

    def fleet(self) -> Fleet:
        """Return the status of the queues, the workers and the audits."""
        snapshot = self._read_status()
        with self._lock:
            self._rates.see(snapshot)
        return Fleet(snapshot, self._rates, matters(snapshot))

    def overview(self) -> Overview:
        """Return what the first page shows."""
        return Overview(
            self.fleet(),
            self._store.counts(),
            self._search.page(Filter(), limit=LATEST).reports,
            self._search.page(Filter(NOT_USABLE), limit=LATEST).reports,
        )

    def verdicts(self, wanted: Filter, after: str | None, limit: int) -> Page:
        """Return a page of verdicts."""
        return self._search.page(wanted, after=after, limit=limit)

    def one(self, bucket: str, key: str, version_id: str | None) -> ObjectView:
        """Return what Keyhole knows about one object."""
        past = history(self._client, bucket, key, version_id)
        try:
            report = self._store.get(bucket, key, version_id)
        except CorruptRecordError as error:
            return ObjectView(None, past, owed=False, trouble=str(error))
        versions = {version_id, report.version_id if report else None}
        owed = any(self._tags.owed(bucket, key, version) for version in versions)
        return ObjectView(report, past, owed)

    def audits(self) -> list[Audit]:
        """Return the audits that started last, latest first."""
        return self._audits.latest(MOST_AUDITS)

    def letters(self) -> tuple[list[DeadLetter], int]:
        """Return the latest dead letters without their bodies, and the number of all dead letters."""
        found = [letter for letter, _ in zip(self._letters.letters(), range(MOST_LETTERS), strict=False)]
        return found, self._letters.count()
