"""Drops the verdicts on deleted objects from Redis.

A caller reads a record with `Drops.look`. If the record's object no longer exists, the caller calls
`Drops.drop`. If another verdict was written in the meantime, `drop` does nothing. The record of the bare key
(the key without a version) can be a pointer to the verdict on a version. If the verdict is dropped, the
pointer is dropped, too. If only the pointer is dropped, the verdict stays.

Known limit: when the verdict on the newest version is dropped, the bare key has no verdict until it is
scanned again, even if an older version has a verdict.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import redis

from keyhole.reasons import Status
from keyhole.results.lookup import Name
from keyhole.results.rows import LUA
from keyhole.store import keys

#: The maximum number of records in one request. A report has a few kilobytes, so Redis's answer stays below a
#: megabyte.
_PAGE: Final = 100
_SEQUENCER: Final = re.compile(r"[0-9a-fA-F]{1,128}")

_DROP: Final = rf"""
{LUA}
local PAST = '{keys.PAST_PREFIX}'
-- KEYS[1]   the record to drop: of an object, or of one of its versions
-- KEYS[2]   the record of the bare key; equal to KEYS[1] if that is not the record of a version
-- KEYS[3..] the indexes of all statuses
-- ARGV[1]   the object id of KEYS[1]
-- ARGV[2]   the header line that the caller read from KEYS[1]
-- ARGV[3]   the object id of KEYS[2]
-- returns 1 if the record was dropped, 0 if it does not exist or has a different header line
local function first_line(value)
    return string.match(value, '^[^\n]*')
end

local value = redis.call('GET', KEYS[1])
if not value or first_line(value) ~= ARGV[2] then
    return 0
end
redis.call('DEL', KEYS[1], PAST .. ARGV[1])
redis.call('HDEL', row_of(ARGV[1]))
for i = 3, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
if KEYS[2] ~= KEYS[1] then
    local bare = redis.call('GET', KEYS[2])
    if bare and string.sub(bare, #first_line(bare) + 2) == '@' .. ARGV[1] then
        redis.call('DEL', KEYS[2], PAST .. ARGV[3])
    end
end
return 1
"""


class Standing(NamedTuple):
    """The name and the header line of a stored record.

    The record contains a verdict, or a pointer to the verdict on a version.
    """

    name: Name
    header: bytes

    @property
    def sequencer(self) -> int | None:
        """Return the sequencer of the S3 event that caused the scan, as a number; `None` if it is unknown."""
        fields = self.header.split(b"|")
        return order(fields[1].decode("ascii", "replace")) if len(fields) > 1 else None


def order(sequencer: str | None) -> int | None:
    """Return the sequencer of an S3 event as a number; `None` if it is missing or not hexadecimal."""
    return int(sequencer, 16) if sequencer and _SEQUENCER.fullmatch(sequencer) else None


class Drops:
    """Reads and drops records in Redis. `client` comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._drop = client.register_script(_DROP)

    def look(self, names: Sequence[Name]) -> list[Standing | None]:
        """Return the record of each name, in the order of the names; `None` if there is no record."""
        found: list[Standing | None] = []
        for start in range(0, len(names), _PAGE):
            page = names[start : start + _PAGE]
            values = self._client.mget([keys.record(keys.object_id(*name)) for name in page])
            # the client does not decode responses
            for name, value in zip(page, cast("list[bytes | None]", values), strict=True):
                found.append(None if value is None else Standing(name, value.partition(b"\n")[0]))
        return found

    def drop(self, standing: Standing) -> bool:
        """Drop a record that `look` returned.

        Return false if somebody else dropped or replaced the record in the meantime.
        """
        object_id = keys.object_id(*standing.name)
        bare_id = keys.object_id(standing.name.bucket, standing.name.key, None)
        dropped = self._drop(
            keys=[
                keys.record(object_id),
                keys.record(bare_id),
                *(keys.status_index(status) for status in Status),
            ],
            args=[object_id, standing.header, bare_id],
        )
        return bool(dropped)
