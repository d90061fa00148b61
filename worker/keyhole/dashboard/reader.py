"""Reads what the pages show from Redis. It writes nothing."""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

import redis

from keyhole.dashboard.attention import Matter, matters
from keyhole.intake.audits.audit import Audit, AuditedObject
from keyhole.intake.audits.reader import AuditReader
from keyhole.intake.audits.urgent_rows import urgent_page
from keyhole.intake.dead_letters import DeadLetter, DeadLetters
from keyhole.jobs.tag_debts import TagDebts
from keyhole.metrics.snapshot import Rates, Snapshot
from keyhole.metrics.store_reader import AuditProgress
from keyhole.reasons import Status, not_an_image
from keyhole.results.history import Past, history
from keyhole.results.lookup import Lookup
from keyhole.results.record import CorruptRecordError
from keyhole.results.redis_store import RedisStore
from keyhole.results.search import Filter, Page, Search
from keyhole.results.spelling import misspelling
from keyhole.scan.report import Report
from keyhole.store import keys

#: The numbers of verdicts on the first page, and of audits and dead letters on their pages.
LATEST, MOST_AUDITS, MOST_LETTERS = 10, 50, 100
#: The statuses that are never safe. Some objects with the status `unrecognized` are not images at all.
_NOT_SAFE: Final = tuple(set(Status) - {Status.SAFE, Status.UNRECOGNIZED})
#: The first page looks for images among this many of the latest verdicts with the status `unrecognized`.
_LATEST_UNRECOGNIZED: Final = 50


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
    not_safe: tuple[Report, ...]


class AuditView(NamedTuple):
    """What Keyhole knows about one audit. `progress` is `None` if the audit has ended.

    `objects` is a page of its objects, the most urgent first. `cursor` is `None` if there are no more.
    """

    audit: Audit
    progress: AuditProgress | None
    rates: Rates
    objects: tuple[AuditedObject, ...]
    cursor: str | None


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
        self._lookup = Lookup(client)
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
            self._not_safe(),
        )

    def _not_safe(self) -> tuple[Report, ...]:
        """Return the latest verdicts that are not safe.

        As in reports, objects that are certainly not images, such as PDFs, are left out. There can be many of
        them, and nobody would import them.
        """
        found = self._search.page(Filter(_NOT_SAFE), limit=LATEST).reports
        unrecognized = self._search.page(Filter((Status.UNRECOGNIZED,)), limit=_LATEST_UNRECOGNIZED).reports
        images = [report for report in unrecognized if not not_an_image(report.status, report.reasons)]
        latest = sorted((*found, *images), key=lambda report: report.scanned_at, reverse=True)
        return tuple(latest[:LATEST])

    def misspelling(self, wanted: Filter) -> str | None:
        """Return one line about a reason or a format that does not exist; otherwise `None`."""
        return misspelling(wanted, self._search)

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

    def audit(self, audit_id: str, status: Status | None, after: str | None, limit: int) -> AuditView | None:
        """Return what Keyhole knows about one audit; `None` if no audit has this id.

        Args:
            audit_id: The id.
            status: List only the objects with this status; `None` for all objects.
            after: The cursor of the previous page of objects; `None` for the first page.
            limit: The maximum number of objects.

        Raises:
            CursorError: `after` is not a cursor.
        """
        # The id comes from a URL. Together with a prefix, it could name another key of Redis.
        is_id = self._client.zscore(keys.AUDITS, audit_id) is not None
        audit = self._audits.get(audit_id) if is_id else None
        if audit is None:
            return None
        fleet = self.fleet()
        running = fleet.snapshot.reading.progresses
        progress = next((one for one in running if one.id == audit_id), None)
        page = urgent_page(self._audits.row_strings(audit_id), status=status, after=after, limit=limit)
        reports = self._lookup.reports_by_id([row.object_id for row in page.rows])
        objects = tuple(
            AuditedObject(how=row.how, status=row.status, report=report)
            for row, report in zip(page.rows, reports, strict=True)
        )
        return AuditView(audit, progress, fleet.rates, objects, page.cursor)

    def letters(self) -> tuple[list[DeadLetter], int]:
        """Return the latest dead letters without their bodies, and the number of all dead letters."""
        found = [letter for letter, _ in zip(self._letters.letters(), range(MOST_LETTERS), strict=False)]
        return found, self._letters.count()
