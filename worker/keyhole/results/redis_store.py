"""Verdicts in Redis: one record an object, an index by status, and a stream of all verdicts.

`keyhole.results.record` defines records, and which of two verdicts on an object stays.

A verdict on a version is that version's record. The bare key (no version) then holds a pointer to the newest
version; or, if it was scanned without a version, a record of its own.

Known limit: if the answer to a write is lost, the write is sent again, finds its own record, and returns
false although it wrote.
"""

import heapq
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple, cast

import redis

from keyhole.reasons import Status
from keyhole.results.record import WRITE_SCRIPT, CorruptRecordError, Record, epoch_ms, header, is_fixed
from keyhole.scan.report import Report
from keyhole.store import keys

_log = logging.getLogger(__name__)

#: The position before a stream's first entry.
STREAM_START: Final = "0-0"
#: The longest wait for the stream in one command, in milliseconds. The connection's own timeout is longer.
LONGEST_BLOCK_MS: Final = 10_000
#: Records, index members or stream entries in one answer: under a megabyte, because a report has some kB.
_PAGE: Final = 100

_PRUNE_SCRIPT: Final = """
-- KEYS[1]   an index
-- ARGV[1]   the key of a record, without the object id at its end
-- ARGV[2..] object ids
-- returns how many had no record and were taken out of the index
local pruned = 0
for i = 2, #ARGV do
    if redis.call('EXISTS', ARGV[1] .. ARGV[i]) == 0 then
        pruned = pruned + redis.call('ZREM', KEYS[1], ARGV[i])
    end
end
return pruned
"""


class Verdict(NamedTuple):
    """One entry of the stream of verdicts."""

    position: str
    job_id: str
    report: Report


class StreamPage(NamedTuple):
    """Verdicts of the stream, oldest first, and the position to continue from, past foreign entries."""

    position: str
    verdicts: tuple[Verdict, ...]


class _Member(NamedTuple):
    """A member of a status index. `scanned_at` in epoch seconds."""

    scanned_at: float
    object_id: str
    status: Status


class RedisStore:
    """Writes and finds verdicts, through a client made by `keyhole.store.connection.connect`.

    A record is kept for `expiry_seconds`, or forever if `None`. `stream_length` is approximately how many
    verdicts the stream keeps. Errors of Redis are raised as `redis.exceptions`.
    """

    def __init__(self, client: redis.Redis, *, expiry_seconds: int | None, stream_length: int) -> None:
        self._client = client
        self._expiry_seconds = expiry_seconds
        self._stream_length = stream_length
        self._write_script = client.register_script(WRITE_SCRIPT)
        self._prune_script = client.register_script(_PRUNE_SCRIPT)

    def write(self, report: Report, *, job_id: str, sequencer: str | None) -> bool:
        """Record a verdict and announce it in the stream; return false if the same or a newer one is there.

        The result is also false if the scan failed. It is then kept as an attempt beside the verdict.

        `sequencer` is that of the S3 event that led to the scan, if any.

        Raises:
            ValueError: the report is not of an object in a bucket.
        """
        if report.bucket is None or report.key is None:
            raise ValueError(f"{report.target} is not an object in a bucket, so it has no record")
        object_id = keys.object_id(report.bucket, report.key, report.version_id)
        bare_id = keys.object_id(report.bucket, report.key, None)
        written = self._write_script(
            keys=[
                keys.record(object_id),
                keys.record(bare_id),
                keys.VERDICTS,
                keys.key_index(report.bucket),
                keys.status_index(report.status),
                *(keys.status_index(status) for status in Status if status != report.status),
            ],
            args=[
                object_id,
                bare_id,
                header(report, job_id=job_id, sequencer=sequencer),
                report.model_dump_json(),
                job_id,
                epoch_ms(report.scanned_at) / 1000,
                self._expiry_seconds or 0,
                self._stream_length,
                report.key,
                int(is_fixed(report)),
            ],
        )
        return int(written) == 1

    def get(self, bucket: str, key: str, version_id: str | None = None) -> Report | None:
        """Return the verdict on an object. Without a version, it is the newest known version's.

        Raises:
            CorruptRecordError: The record cannot be read.
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
        """Yield verdicts with this status (or any), the latest scan first, without the first `offset` ones.

        Index members whose record has expired are skipped, and pruned after the last verdict. A record that
        cannot be read is logged and skipped.
        """
        orphans: list[_Member] = []
        stop = None if limit is None else offset + limit
        yield from islice(self._reports(status, orphans), offset, stop)
        for of_status in Status:
            ids = [orphan.object_id for orphan in orphans if orphan.status == of_status]
            self._prune(keys.status_index(of_status), ids)

    def counts(self) -> dict[Status, int]:
        """Return how many objects have which status. Records that have expired are not counted."""
        for status in Status:
            self._prune_expired(keys.status_index(status))
        with self._client.pipeline(transaction=False) as pipe:
            for status in Status:
                pipe.zcard(keys.status_index(status))
            return dict(zip(Status, pipe.execute(), strict=True))

    def read_stream(self, after: str, *, block_ms: int = 0) -> StreamPage:
        """Return the next verdicts after a position. The wait for the first is at most `LONGEST_BLOCK_MS`.

        Entries that are not Keyhole's are skipped. Continue from the page's position even if it is empty.
        """
        block = min(block_ms, LONGEST_BLOCK_MS) or None  # to Redis, zero means for ever
        found = self._client.xread({keys.VERDICTS: after}, count=_PAGE, block=block)
        # redis-py's type covers every protocol; with protocol 2 it is this.
        streams = cast("list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]", found)
        entries = streams[0][1] if streams else []
        position = entries[-1][0].decode() if entries else after
        return StreamPage(position, tuple(_verdicts(entries)))

    def stream_position(self) -> str:
        """Return the position of the stream's last entry. Later verdicts are read after it."""
        found = self._client.xrevrange(keys.VERDICTS, count=1)
        # redis-py's type covers every protocol; with protocol 2 it is this.
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
        return entries[0][0].decode() if entries else STREAM_START

    def _record(self, object_id: str) -> Record | None:
        value = cast("bytes | None", self._client.get(keys.record(object_id)))  # `connect` asks for bytes
        return None if value is None else Record.parse(value)

    def _reports(self, status: Status | None, orphans: list[_Member]) -> Iterator[Report]:
        """Yield reports, the latest first. Members without a record are added to `orphans`."""
        indexes = map(self._members, Status if status is None else [status])
        members = heapq.merge(*indexes, key=lambda member: member.scanned_at, reverse=True)
        while page := list(islice(members, _PAGE)):
            found = self._client.mget([keys.record(member.object_id) for member in page])
            values = cast("list[bytes | None]", found)  # `connect` asks for bytes
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
        """Yield the members of an index, the latest first, paged by score, so that new ones shift nothing."""
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
        """Prune index members that were scanned so long ago that their records may have expired."""
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
        """Remove index members without a record; in a script, because a record may be written meanwhile."""
        pages = (object_ids[start : start + _PAGE] for start in range(0, len(object_ids), _PAGE))
        return sum(int(self._prune_script(keys=[index], args=[keys.RECORD_PREFIX, *page])) for page in pages)

    def _index_page(
        self, index: str, first: float | str, last: float | str, offset: int, *, latest_first: bool
    ) -> list[tuple[bytes, float]]:
        """Return a page of an index between two scores: object ids, with the epoch seconds of their scans."""
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
        # redis-py's type covers every option and protocol; with scores and protocol 2 it is this.
        return cast("list[tuple[bytes, float]]", found)


def _verdicts(entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[Verdict]:
    """Yield the entries of the stream that are verdicts."""
    for position, fields in entries:
        try:
            report = Report.model_validate_json(fields[b"report"])
            yield Verdict(position.decode(), fields[b"job"].decode(), report)
        except (KeyError, ValueError):  # errors of pydantic's and of `decode` are ValueErrors
            _log.warning("entry %s of %s is not a verdict", position.decode(), keys.VERDICTS)
