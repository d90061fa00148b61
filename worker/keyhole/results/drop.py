"""Drops verdicts on deleted objects, unless another verdict was written in between.

A caller looks at a verdict, decides, and drops it. A verdict that was written since the look stays. If a
version's verdict is dropped, so is the bare key's pointer to it. If a pointer is dropped, the versions'
verdicts stay.

Known limit: when the newest version is dropped, the bare key does not point to the version before it. It has
no verdict until it is scanned again.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import redis

from keyhole.reasons import Status
from keyhole.results.lookup import Name
from keyhole.store import keys

#: Records in one answer: under a megabyte, because a report has a few kilobytes.
_PAGE: Final = 100
_SEQUENCER: Final = re.compile(r"[0-9a-fA-F]{1,128}")

_DROP: Final = r"""
-- KEYS[1]   record of the object, or of one of its versions
-- KEYS[2]   record of the bare key: the same one, if no version is dropped
-- KEYS[3..] indexes of all statuses
-- ARGV[1]   object id of the first
-- ARGV[2]   the header line that was looked at
-- returns 1 if the record was dropped, 0 if there is none, or another one
local function first_line(value)
    return string.match(value, '^[^\n]*')
end

local value = redis.call('GET', KEYS[1])
if not value or first_line(value) ~= ARGV[2] then
    return 0
end
redis.call('DEL', KEYS[1])
for i = 3, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
if KEYS[2] ~= KEYS[1] then
    local bare = redis.call('GET', KEYS[2])
    if bare and string.sub(bare, #first_line(bare) + 2) == '@' .. ARGV[1] then
        redis.call('DEL', KEYS[2])
    end
end
return 1
"""


class Standing(NamedTuple):
    """A record that is stored under a name: a verdict, or a pointer to a version's verdict."""

    name: Name
    header: bytes

    @property
    def sequencer(self) -> int | None:
        """Return the number of the event that led to the verdict; `None` if none did, or it has no number."""
        fields = self.header.split(b"|")
        return order(fields[1].decode("ascii", "replace")) if len(fields) > 1 else None


def order(sequencer: str | None) -> int | None:
    """Return a sequencer as a number; `None` if it is unknown, or not hexadecimal."""
    return int(sequencer, 16) if sequencer and _SEQUENCER.fullmatch(sequencer) else None


class Drops:
    """Drops verdicts, through a client made by `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._drop = client.register_script(_DROP)

    def look(self, names: Sequence[Name]) -> list[Standing | None]:
        """Return the record under each name, in their order."""
        found: list[Standing | None] = []
        for start in range(0, len(names), _PAGE):
            page = names[start : start + _PAGE]
            values = self._client.mget([keys.record(keys.object_id(*name)) for name in page])
            for name, value in zip(
                page, cast("list[bytes | None]", values), strict=True
            ):  # `connect` asks for bytes
                found.append(None if value is None else Standing(name, value.partition(b"\n")[0]))
        return found

    def drop(self, standing: Standing) -> bool:
        """Drop a record that was looked at. Return false if it is gone or was replaced."""
        object_id = keys.object_id(*standing.name)
        bare_id = keys.object_id(standing.name.bucket, standing.name.key, None)
        dropped = self._drop(
            keys=[
                keys.record(object_id),
                keys.record(bare_id),
                *(keys.status_index(status) for status in Status),
            ],
            args=[object_id, standing.header],
        )
        return bool(dropped)
