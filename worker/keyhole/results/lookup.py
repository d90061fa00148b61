"""Reads many verdicts in one or two requests to Redis, and lists the keys of a bucket that have verdicts."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, cast

import redis

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
        records = self._records(object_ids)
        pointers = {
            number: target
            for number, record in enumerate(records)
            if record is not None and (target := record.points_to) is not None
        }
        for number, record in zip(pointers, self._records(list(pointers.values())), strict=True):
            records[number] = record
        return [_report(record) for record in records]

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


def _report(record: Record | None) -> Report | None:
    try:
        return None if record is None or record.points_to is not None else record.report()
    except CorruptRecordError:
        return None
