"""Reads many verdicts in one or two requests to Redis, and lists the keys of a bucket that have verdicts."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast

import redis

from keyhole.reasons import Status
from keyhole.results.record import CorruptRecordError, Record
from keyhole.scan.report import Report
from keyhole.store import keys

#: The maximum number of keys in one request. S3's keys have at most 1024 bytes, so Redis's answer has about a
#: megabyte at most.
_PAGE: Final = 1000


class Name(NamedTuple):
    """The name of an object. If `version_id` is set, the name of one of its versions."""

    bucket: str
    key: str
    version_id: str | None = None


class Stored:
    """A stored verdict. The report is unpacked only when it is needed.

    Args:
        object_id: The id of the object whose record contains the verdict. If the verdict was looked up
            without a version, this can be the id of a version.
        record: The record.
    """

    __slots__ = ("_report", "_unpacked", "object_id", "record")

    def __init__(self, object_id: str, record: Record) -> None:
        self.object_id = object_id
        self.record = record
        self._report: Report | None = None
        self._unpacked = False

    @property
    def status(self) -> Status:
        """Return the status of the verdict.

        Before the report is unpacked, the status comes from the header of the record.

        Raises:
            ValueError: The header is damaged.
        """
        return Status(self.record.status) if self._report is None else self._report.status

    @property
    def report(self) -> Report | None:
        """Return the report; `None` if it cannot be parsed."""
        if not self._unpacked:
            self._report, self._unpacked = _report(self.record), True
        return self._report


class Lookup:
    """Reads verdicts from Redis. `client` comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def reports(self, names: Sequence[Name]) -> list[Report | None]:
        """Return the verdict on each object, in the order of the names; `None` if there is no verdict.

        If a name has no version, return the verdict on the newest version that Keyhole has scanned. A record
        that cannot be parsed is treated as missing, so that the object is scanned again.
        """
        return self.reports_by_id([keys.object_id(*name) for name in names])

    def reports_by_id(self, object_ids: Sequence[str]) -> list[Report | None]:
        """Return the verdict on the object with each id, in the order of the ids.

        If an object has no verdict, return `None` for this object.
        """
        return [None if one is None else one.report for one in self.stored_by_id(object_ids)]

    def stored_by_id(self, object_ids: Sequence[str]) -> list[Stored | None]:
        """Return the same as `reports_by_id`, but do not unpack the reports."""
        ids, records = list(object_ids), self._records(object_ids)
        pointers = {
            number: target
            for number, record in enumerate(records)
            if record is not None and (target := record.points_to) is not None
        }
        ids_pointed_to = list(pointers.values())
        for number, target, record in zip(
            pointers, ids_pointed_to, self._records(ids_pointed_to), strict=True
        ):
            ids[number], records[number] = target, record
        return [
            None if record is None else Stored(object_id, record)
            for object_id, record in zip(ids, records, strict=True)
        ]

    def keys_between(self, bucket: str, prefix: str, after: str | None, until: str | None) -> Iterator[str]:
        """Yield the keys with this prefix that have verdicts, sorted by their UTF-8 bytes.

        Yield only the keys that sort after `after`, up to and including `until`. `None` means that there is
        no bound.
        """
        first = b"(" + after.encode() if after is not None else b"[" + prefix.encode()
        last = b"[" + until.encode() if until is not None else b"+"
        while True:
            found = self._client.zrange(keys.key_index(bucket), first, last, bylex=True, offset=0, num=_PAGE)
            page = cast("list[bytes]", found)  # the client does not decode responses
            for name in page:
                key = name.decode()
                if not key.startswith(prefix):
                    return
                yield key
            if len(page) < _PAGE:
                return
            first = b"(" + page[-1]

    def count_keys(self, bucket: str, prefix: str, after: str | None, until: str | None) -> int:
        """Return the number of keys that `keys_between` yields.

        The time that this takes hardly depends on the number of keys.
        """
        first = b"(" + after.encode() if after is not None else b"[" + prefix.encode()
        # No text in UTF-8 contains the byte 255, so this bound is greater than all keys with the prefix.
        last = b"[" + until.encode() if until is not None else b"(" + prefix.encode() + b"\xff"
        return self._client.zlexcount(keys.key_index(bucket), first, last)

    def forget_keys(self, bucket: str, names: Sequence[str]) -> None:
        """Remove keys from the index of a bucket's keys.

        The caller passes only keys that no longer have a record.
        """
        if names:
            self._client.zrem(keys.key_index(bucket), *names)

    def _records(self, object_ids: Sequence[str]) -> list[Record | None]:
        if not object_ids:
            return []
        found = self._client.mget([keys.record(object_id) for object_id in object_ids])
        # the client does not decode responses
        return [_parsed(value) for value in cast("list[bytes | None]", found)]


def _parsed(value: bytes | None) -> Record | None:
    try:
        return None if value is None else Record.parse(value)
    except CorruptRecordError:
        return None


def _report(record: Record) -> Report | None:
    try:
        return None if record.points_to is not None else record.report()
    except CorruptRecordError:
        return None
