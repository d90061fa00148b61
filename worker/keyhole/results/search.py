"""Finds verdicts by status, time, bucket, prefix, part of the key, format or reason: the latest scan first.

If a filter names only statuses and a time, the search reads the indexes of the statuses. Otherwise it reads
the rows of all verdicts (`keyhole.results.rows`), some hashes at a time, and keeps the latest matches. So
every search takes about the same time, also if nothing matches: for 100,000 verdicts about 10 MB are read,
and for a million ten times as much. Redis only copies the rows, so a search hardly delays other clients.

A page ends with a cursor: the time of the scan and the object id of its last verdict. The next page begins
after this place. So a verdict that is written between two pages moves no other verdict to another page.

Known limit: an older version of Keyhole writes no rows. While rows are missing, each search reads the records
of all verdicts, which takes seconds for 100,000 verdicts.
"""

import heapq
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple, Self, cast

import redis

from keyhole.errors import KeyholeError
from keyhole.reasons import Status
from keyhole.results import rows
from keyhole.results.lookup import Lookup
from keyhole.results.record import epoch_ms
from keyhole.scan.report import Report
from keyhole.store import keys

#: The maximum number of verdicts on a page. A report has a few kilobytes.
MOST: Final = 1000
#: The maximum number of places that are kept while all rows are read. A row has about 100 bytes.
_PLACES: Final = 50_000
#: The number of hashes of rows in one request. With a million verdicts, an answer has about 5 MB.
_HASHES: Final = 16
#: The number of members of an index in one request.
_PAGE: Final = 200

_CURSOR: Final = re.compile(r"(\d{1,14})-([0-9a-f]{32})", re.ASCII)


class CursorError(KeyholeError):
    """A text is not a cursor that a page returned."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a search finds. An empty text, an empty tuple or `None` matches every verdict.

    Args:
        statuses: The statuses of the verdicts.
        bucket: The bucket of the object.
        prefix: The beginning of the object's key.
        part: A text that the key contains. ASCII letters match in upper and lower case.
        format: The format of the image.
        reason: One of the reasons of the verdict.
        since: The earliest time of the scan.
    """

    statuses: tuple[Status, ...] = ()
    bucket: str = ""
    prefix: str = ""
    part: str = ""
    format: str = ""
    reason: str = ""
    since: datetime | None = None

    @property
    def needs_rows(self) -> bool:
        """Return whether the indexes of the statuses are not enough."""
        return any((self.bucket, self.prefix, self.part, self.format, self.reason))

    def accepts(self, report: Report) -> bool:
        """Return whether a report matches."""
        key = report.key or ""
        return (
            (not self.statuses or report.status in self.statuses)
            and self.bucket in {"", report.bucket}
            and key.startswith(self.prefix)
            and _encoded(self.part).lower() in _encoded(key).lower()
            and self.format in {"", report.format}
            and (not self.reason or self.reason in report.reasons)
            and (self.since is None or report.scanned_at >= self.since)
        )


class Page(NamedTuple):
    """A page of verdicts, the latest scan first. `cursor` is `None` if there are no more verdicts."""

    reports: tuple[Report, ...]
    cursor: str | None


class _Place(NamedTuple):
    """A place in the order of all verdicts: the time of a scan in milliseconds, and an object id."""

    scanned_ms: int
    object_id: str

    @classmethod
    def parse(cls, cursor: str) -> Self:
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise CursorError("this is not the cursor of a page of verdicts; begin with the first page")
        return cls(int(found[1]), found[2])

    def __str__(self) -> str:
        return f"{self.scanned_ms}-{self.object_id}"


#: A place before the latest verdict.
_START: Final = _Place(10**14, "")


class Search:
    """Searches the verdicts in Redis. `client` comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lookup = Lookup(client)

    def page(self, wanted: Filter, *, after: str | None = None, limit: int = 50) -> Page:
        """Return a page of at most `limit` verdicts that match a filter.

        Args:
            wanted: The filter.
            after: The cursor of the previous page; `None` for the first page.
            limit: The maximum number of verdicts, from 1 to `MOST`.

        Raises:
            CursorError: `after` is not a cursor.
            redis.RedisError: Redis failed.
        """
        limit = max(1, min(limit, MOST))
        place = _START if after is None else _Place.parse(after)
        reports: list[Report] = []
        for found, report in self._found(wanted, place, limit + 1):
            if len(reports) == limit:
                return Page(tuple(reports), str(place))
            reports.append(report)
            place = found
        return Page(tuple(reports), None)

    def all(self, wanted: Filter, expected: int = MOST) -> Iterator[Report]:
        """Yield all verdicts that match a filter, the latest scan first.

        `expected` is the number of verdicts that the caller probably needs; it only saves time.
        """
        return (report for _, report in self._found(wanted, _START, min(expected, MOST)))

    def _found(self, wanted: Filter, after: _Place, size: int) -> Iterator[tuple[_Place, Report]]:
        """Yield the verdicts after a place that match. `size` is the number that is read at once."""
        places = self._by_rows(wanted, after, size) if wanted.needs_rows else self._by_index(wanted, after)
        while batch := list(islice(places, size)):
            reports = self._lookup.reports_by_id([place.object_id for place in batch])
            for place, report in zip(batch, reports, strict=True):
                # The record can have expired, or can have changed after its row was read.
                if report is not None and wanted.accepts(report):
                    yield place, report

    def _by_index(self, wanted: Filter, after: _Place) -> Iterator[_Place]:
        """Yield the places after a place, from the indexes of the statuses."""
        since = "-inf" if wanted.since is None else str(epoch_ms(wanted.since) / 1000)
        indexes = [self._members(status, after, since) for status in wanted.statuses or Status]
        return heapq.merge(*indexes, reverse=True)

    def _members(self, status: Status, after: _Place, since: str) -> Iterator[_Place]:
        """Yield the members of an index after a place.

        Each request begins at the lowest score of the previous one, because a member that is added between
        two requests would shift a rank.
        """
        seen_at_ceiling = 0
        while True:
            found = self._client.zrange(
                keys.status_index(status),
                after.scanned_ms / 1000,
                since,
                desc=True,
                byscore=True,
                offset=seen_at_ceiling,
                num=_PAGE,
                withscores=True,
            )
            # redis-py declares one type for all options; with scores and protocol 2 the answer has this type
            members = cast("list[tuple[bytes, float]]", found)
            places = [_Place(round(score * 1000), member.decode()) for member, score in members]
            for place in places:
                if place < after:
                    yield place
            if len(places) < _PAGE:
                return
            lowest = places[-1].scanned_ms
            at_lowest = sum(place.scanned_ms == lowest for place in places)
            seen_at_ceiling = at_lowest + (seen_at_ceiling if lowest == after.scanned_ms else 0)
            after = min(after, places[-1])

    def _by_rows(self, wanted: Filter, after: _Place, size: int) -> Iterator[_Place]:
        """Yield the places after a place whose rows match.

        All rows are read for the first `size` places, and again for four times as many, and so on. Otherwise
        the time for a long list would grow with the square of its length.
        """
        while True:
            verdicts = sum(self._client.zcard(keys.status_index(status)) for status in Status)
            read, places = self._latest(_comparison(wanted, after), after, size)
            if read < verdicts:
                yield from self._by_index(wanted, after)
                return
            yield from places
            if len(places) < size:
                return
            after, size = places[-1], min(size * 4, _PLACES)

    def _latest(
        self, matches: Callable[[list[bytes], bytes], list[bytes]], after: _Place, size: int
    ) -> tuple[int, list[_Place]]:
        """Return the number of all rows, and the places of the latest `size` matches after a place."""
        read, floor = 0, b""
        latest: list[bytes] = []
        for first in range(0, 16**2, _HASHES):
            with self._client.pipeline(transaction=False) as pipe:
                for number in range(first, first + _HASHES):
                    pipe.hvals(keys.rows(f"{number:02x}"))
                found = [row for values in cast("list[list[bytes]]", pipe.execute()) for row in values]
            read += len(found)
            latest += matches(found, floor)
            latest, floor = _cut(latest, size, floor)
        places = (place for row in latest if (place := _place(row)) is not None and place < after)
        return read, heapq.nlargest(size, places)


def _cut(latest: list[bytes], size: int, floor: bytes) -> tuple[list[bytes], bytes]:
    """Return the latest `size` rows, and the time of the earliest of these rows. Earlier rows do not count.

    Rows of the same time are sorted by their object id, which is not known yet, so further rows of the
    earliest time are kept. The cursor can have the time of the latest rows, and some of these rows can come
    before it, so rows of the latest time are not counted.
    """
    if len(latest) <= 2 * size:
        return latest, floor
    times = [row[: rows.TIME_BYTES] for row in latest]
    newest = max(times)
    counted = heapq.nlargest(size, (time for time in times if time != newest))
    if len(counted) < size:
        return latest, floor
    floor = counted[-1]
    return [row for row, time in zip(latest, times, strict=True) if time >= floor], floor


def _place(row: bytes) -> _Place | None:
    """Return the place of a row; `None` if the row is corrupt."""
    try:
        object_id = keys.object_id(*rows.name_of(row))
    except ValueError:
        return None
    return _Place(int.from_bytes(row[: rows.TIME_BYTES]), object_id)


def _comparison(wanted: Filter, after: _Place) -> Callable[[list[bytes], bytes], list[bytes]]:
    """Return a function that returns the rows that match, and are not later than the cursor.

    The function's second argument is the earliest time that still counts. The function first drops the rows
    that are too early, and the rows that do not contain the filter's texts anywhere, which is fast.
    """
    letters = b"".join(rows.LETTERS[status] for status in wanted.statuses or Status)
    until = rows.time_bytes(after.scanned_ms + 1)
    since = rows.time_bytes(0 if wanted.since is None else epoch_ms(wanted.since))
    image, reason, bucket, prefix = map(
        _encoded, (wanted.format, wanted.reason, wanted.bucket, wanted.prefix)
    )
    part = _encoded(wanted.part).lower()
    texts = [text for text in (image, reason, b"\0" + bucket + b"\0" if bucket else b"", prefix) if text]
    status_at = rows.TIME_BYTES

    def matches(row: bytes) -> bool:
        fields = rows.texts_of(row)
        if len(fields) < 5:
            return False
        its_image, its_reasons, _, its_bucket, key = fields
        return (
            (not image or its_image == image)
            and (not reason or reason in its_reasons.split(b","))
            and (not bucket or its_bucket == bucket)
            and key.startswith(prefix)
            and part in key.lower()
        )

    def matching(found: list[bytes], floor: bytes) -> list[bytes]:
        floor = max(floor, since)
        found = [row for row in found if floor <= row < until]
        for text in texts:
            found = [row for row in found if text in row]
        if part:
            found = [row for row in found if part in row.lower()]
        return [row for row in found if row[status_at] in letters and matches(row)]

    return matching


def _encoded(text: str) -> bytes:
    """Return a text in UTF-8. A text that cannot be encoded matches no key."""
    return text.encode(errors="surrogatepass")
