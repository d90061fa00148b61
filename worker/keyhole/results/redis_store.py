"""Stores verdicts in Redis: one record per object, an index for each status, and a stream of all verdicts.

`keyhole.results.record` defines the records, and the rules that decide which of two verdicts a record stores.

If the bucket has versions, each version of an object has its own record, and the record of the bare key (the
key without a version) points to the record of the newest version. If the object was scanned without a
version, the record of the bare key contains the verdict itself.

Known limit: if Redis's answer to a write is lost, the client sends the write again. The second write finds
the record that the first write stored. So `write` returns false, although the verdict was stored.
"""

import heapq
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple, cast

import redis

from keyhole import versions
from keyhole.reasons import Status
from keyhole.results.record import (
    WRITE_SCRIPT,
    CorruptRecordError,
    Record,
    body_of,
    epoch_ms,
    header,
    is_fixed,
)
from keyhole.results.rows import PRUNE_SCRIPT, row
from keyhole.results.sinks.notifier import NOBODY, Notifier
from keyhole.scan.report import Report
from keyhole.store import keys
from keyhole.store.round_trips import Step

_log = logging.getLogger(__name__)

#: The position before a stream's first entry.
STREAM_START: Final = "0-0"
#: The longest time, in milliseconds, for which one command waits for new entries of the stream. This time is
#: shorter than the connection's timeout.
LONGEST_BLOCK_MS: Final = 10_000
#: The maximum number of records, index members or stream entries in one request. A report has a few
#: kilobytes, so Redis's answer stays below a megabyte.
_PAGE: Final = 100


class Verdict(NamedTuple):
    """One entry of the stream of verdicts."""

    position: str
    job_id: str
    report: Report


class StreamPage(NamedTuple):
    """A page of verdicts from the stream, oldest first, and the position after which the next page begins.

    `position` is the position of the last entry that was read. Keyhole may have skipped this entry because it
    is not a verdict.
    """

    position: str
    verdicts: tuple[Verdict, ...]


class _Member(NamedTuple):
    """A member of the index of a status. `scanned_at` is in epoch seconds."""

    scanned_at: float
    object_id: str
    status: Status


class RedisStore:
    """Writes verdicts to Redis and reads them from Redis. Errors of Redis are raised as `redis.exceptions`.

    Args:
        client: A client from `keyhole.store.connection.connect`.
        expiry_seconds: Seconds after which Redis deletes a record; `None` for never.
        stream_length: The approximate maximum number of verdicts in the stream.
        notifier: The notifier, which decides which sinks get an event about a verdict.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        expiry_seconds: int | None,
        stream_length: int,
        notifier: Notifier = NOBODY,
    ) -> None:
        self._client = client
        self._expiry_seconds = expiry_seconds
        self._stream_length = stream_length
        self._notifier = notifier
        self._write_script = client.register_script(WRITE_SCRIPT)
        self._prune_script = client.register_script(PRUNE_SCRIPT)

    def write(self, report: Report, *, job_id: str, sequencer: str | None) -> bool:
        """Store a verdict, append it to the stream, and record its event.

        Return whether the verdict was stored.

        A verdict is not stored if the existing verdict is newer or has the same job id. If the scan failed
        and the object already has a verdict, the verdict stays, and the failed scan is stored beside it as
        the latest attempt.

        Args:
            report: The report with the verdict.
            job_id: The id of the scan's job.
            sequencer: The sequencer of the S3 event that caused the scan; `None` if no event caused it.

        Raises:
            ValueError: The report is not about an object in a bucket.
        """
        step = self.writing(report, job_id=job_id, sequencer=sequencer)
        return int(self._write_script(keys=step.keys, args=step.args)) == 1

    def writing(self, report: Report, *, job_id: str, sequencer: str | None) -> Step:
        """Return a step that does the same as `write`.

        The caller can run the step together with other steps.
        """
        if report.bucket is None or report.key is None:
            raise ValueError(f"{report.target} is not an object in a bucket, so it has no record")
        object_id = keys.object_id(report.bucket, report.key, report.version_id)
        bare_id = keys.object_id(report.bucket, report.key, None) if report.version_id else object_id
        as_json = report.model_dump_json().encode()
        owing = self._notifier.owing(report, job_id=job_id)
        return Step(
            WRITE_SCRIPT,
            [
                keys.record(object_id),
                keys.record(bare_id),
                keys.VERDICTS,
                keys.key_index(report.bucket),
                *owing.keys,
            ],
            [
                object_id,
                bare_id,
                header(report, job_id=job_id, sequencer=sequencer),
                body_of(report, as_json),
                job_id,
                epoch_ms(report.scanned_at) / 1000,
                self._expiry_seconds or 0,
                self._stream_length,
                report.key,
                int(is_fixed(report)),
                as_json,
                owing.event_id,
                owing.event,
                row(report, epoch_ms(report.scanned_at)),
            ],
        )

    def get(self, bucket: str, key: str, version_id: str | None = None) -> Report | None:
        """Return the verdict on an object; `None` if there is none.

        If `version_id` is `None`, return the verdict on the newest version that Keyhole has scanned.

        Raises:
            CorruptRecordError: The record cannot be parsed.
        """
        object_id = keys.object_id(bucket, key, version_id)
        try:
            record = self._record(object_id)
            if record is not None and record.points_to is not None:
                object_id = record.points_to
                record = self._record(object_id)
            return None if record is None else record.report()
        except CorruptRecordError as error:
            raise CorruptRecordError(
                f"the record of s3://{bucket}/{key}, {keys.record(object_id)}, cannot be read ({error}): "
                "scan the object again to replace it, or update Keyhole if a later version wrote it"
            ) from error

    def find(
        self, status: Status | None = None, *, limit: int | None = None, offset: int = 0
    ) -> Iterator[Report]:
        """Yield the verdicts with this status, or all verdicts if `status` is `None`.

        The latest scan comes first.

        A record that cannot be parsed is logged and skipped. If the record of an index member has expired,
        the member is skipped. When all verdicts have been yielded, the skipped members are removed from the
        index.

        Args:
            status: The status of the verdicts.
            limit: The maximum number of verdicts; `None` for all.
            offset: The number of verdicts to skip at the beginning.
        """
        orphans: list[_Member] = []
        stop = None if limit is None else offset + limit
        yield from islice(self._reports(status, orphans), offset, stop)
        for of_status in Status:
            ids = [orphan.object_id for orphan in orphans if orphan.status == of_status]
            self._prune(keys.status_index(of_status), ids)

    def counts(self) -> dict[Status, int]:
        """Return the number of objects with each status. Expired records are not counted."""
        for status in Status:
            self._prune_expired(keys.status_index(status))
        with self._client.pipeline(transaction=False) as pipe:
            for status in Status:
                pipe.zcard(keys.status_index(status))
            return dict(zip(Status, pipe.execute(), strict=True))

    def read_stream(self, after: str, *, block_ms: int = 0) -> StreamPage:
        """Return the next verdicts after a position in the stream.

        If there are no later verdicts yet, wait up to `block_ms` milliseconds for one, but at most
        `LONGEST_BLOCK_MS`. Entries that Keyhole did not write are skipped. To read the next page, pass the
        position of the returned page as `after`, even if that page has no verdicts.
        """
        block = min(block_ms, LONGEST_BLOCK_MS) or None  # BLOCK 0 would make Redis wait without a time limit
        found = self._client.xread({keys.VERDICTS: after}, count=_PAGE, block=block)
        # redis-py declares one type for all protocols; with protocol 2 the answer has this type.
        streams = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", found)
        entries = streams[0][1] if streams else []
        position = entries[-1][0].decode() if entries else after
        return StreamPage(position, tuple(_verdicts(entries)))

    def stream_position(self) -> str:
        """Return the position of the stream's last entry: `read_stream` then returns only later verdicts."""
        found = self._client.xrevrange(keys.VERDICTS, count=1)
        # redis-py declares one type for all protocols; with protocol 2 the answer has this type.
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
        return entries[0][0].decode() if entries else STREAM_START

    def _record(self, object_id: str) -> Record | None:
        # the client does not decode responses
        value = cast("bytes | None", self._client.get(keys.record(object_id)))
        return None if value is None else Record.parse(value)

    def _reports(self, status: Status | None, orphans: list[_Member]) -> Iterator[Report]:
        """Yield reports, the latest scan first. Append index members without a record to `orphans`."""
        indexes = map(self._members, Status if status is None else [status])
        members = heapq.merge(*indexes, key=lambda member: member.scanned_at, reverse=True)
        while page := list(islice(members, _PAGE)):
            found = self._client.mget([keys.record(member.object_id) for member in page])
            values = cast("list[bytes | None]", found)  # the client does not decode responses
            for member, value in zip(page, values, strict=True):
                if value is None:
                    orphans.append(member)
                    continue
                try:
                    record = Record.parse(value)
                    # The verdict may have changed since the index was read.
                    if status in (None, record.status):
                        yield record.report()
                except CorruptRecordError as error:
                    _log.warning("%s cannot be read: %s", keys.record(member.object_id), error)

    def _members(self, status: Status) -> Iterator[_Member]:
        """Yield the members of an index, the latest scan first.

        Each page begins at the lowest score of the previous page. Offsets from the newest member would not
        work, because a member that is added between two requests would shift all later pages.
        """
        ceiling: float | str = "+inf"
        seen_at_ceiling = 0
        while True:
            page = self._index_page(
                keys.status_index(status), ceiling, "-inf", seen_at_ceiling, latest_first=True
            )
            for object_id, scanned_at in page:
                yield _Member(scanned_at, object_id.decode(), status)
            if len(page) < _PAGE:
                return
            lowest = page[-1][1]
            at_lowest = sum(scanned_at == lowest for _, scanned_at in page)
            seen_at_ceiling = at_lowest + (seen_at_ceiling if lowest == ceiling else 0)
            ceiling = lowest

    def _prune_expired(self, index: str) -> None:
        """Remove the index members whose record has expired.

        Only members that are old enough to have expired are checked.
        """
        if self._expiry_seconds is None:
            return
        now, _ = self._client.time()
        kept = 0
        while True:
            page = self._index_page(index, "-inf", now - self._expiry_seconds, kept, latest_first=False)
            kept += len(page) - self._prune(index, [object_id.decode() for object_id, _ in page])
            if len(page) < _PAGE:
                return

    def _prune(self, index: str, object_ids: list[str]) -> int:
        """Remove the given index members that have no record.

        Return the number of removed members. A script checks and removes the members in one step, because a
        worker can write a record at any time.
        """
        pages = (object_ids[start : start + _PAGE] for start in range(0, len(object_ids), _PAGE))
        return sum(int(self._prune_script(keys=[index], args=[keys.RECORD_PREFIX, *page])) for page in pages)

    def _index_page(
        self, index: str, first: float | str, last: float | str, offset: int, *, latest_first: bool
    ) -> list[tuple[bytes, float]]:
        """Return a page of the index members between two scores: object ids and scores.

        A score is the time of the scan in epoch seconds.
        """
        found = self._client.zrange(
            index,
            first,
            last,
            desc=latest_first,
            byscore=True,
            offset=offset,
            num=_PAGE,
            withscores=True,
        )
        # redis-py declares one type for all options and protocols; with scores and protocol 2 the answer has
        # this type.
        return cast("list[tuple[bytes, float]]", found)


def _verdicts(entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[Verdict]:
    """Yield the entries of the stream that are verdicts."""
    for position, fields in entries:
        try:
            report = Report.model_validate_json(fields[b"report"], extra="ignore")
            yield Verdict(position.decode(), fields[b"job"].decode(), report)
        except KeyError as error:
            _log.warning(
                "entry %s of %s is not a verdict: it has no %s", position.decode(), keys.VERDICTS, error
            )
        except ValueError as error:  # pydantic and `decode` raise subclasses of ValueError
            why = versions.why_unreadable(error)
            _log.warning("entry %s of %s is not a verdict: %s", position.decode(), keys.VERDICTS, why)
