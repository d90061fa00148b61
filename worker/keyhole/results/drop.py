"""Dropping verdicts: on what is gone, and only if no other verdict has come in between.

Whoever wants to drop looks first, decides by what stands there, and drops that; a verdict that was written
since stays. A version's verdict goes with the pointer to it, if the bare key's record is one; a dropped
pointer leaves the versions' verdicts.

What it can't do: the bare key of an object whose newest version was dropped does not point to the version
before it. It has no verdict until it is scanned again.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import redis

from keyhole.reasons import Status
from keyhole.results.lookup import Name
from keyhole.store import keys

#: Records in one answer: at some kilobytes a report, under a megabyte.
_PAGE: Final = 100
_SEQUENCER: Final = re.compile(r"[0-9a-fA-F]{1,128}")

_DROP: Final = r"""
-- KEYS[1]   record of the object, or of one of its versions
-- KEYS[2]   record of the bare key: the same one, if no version is dropped
-- KEYS[3..] indexes of all statuses
-- ARGV[1]   object id of the first
-- ARGV[2]   the header line that was looked at
-- returns 1 if the record was dropped, 0 if none or another stands there
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
    """A record that stands under a name: a verdict, or a pointer to that on a version."""

    name: Name
    header: bytes

    @property
    def sequencer(self) -> int | None:
        """The order of the event that led to the verdict; `None` where no event did, or it has none."""
        fields = self.header.split(b"|")
        return order(fields[1].decode("ascii", "replace")) if len(fields) > 1 else None


def order(sequencer: str | None) -> int | None:
    """A sequencer as a number; `None` if it is unknown, or not hexadecimal."""
    return int(sequencer, 16) if sequencer and _SEQUENCER.fullmatch(sequencer) else None


class Drops:
    """Drops verdicts, through a client as `keyhole.store.connection.connect` makes it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._drop = client.register_script(_DROP)

    def look(self, names: Sequence[Name]) -> list[Standing | None]:
        """What stands under each name, in their order."""
        found: list[Standing | None] = []
        for start in range(0, len(names), _PAGE):
            page = names[start : start + _PAGE]
            values = self._client.mget([keys.record(keys.object_id(*name)) for name in page])
            for name, value in zip(
                page, cast("list[bytes | None]", values), strict=True
            ):  # as `connect` asks
                found.append(None if value is None else Standing(name, value.partition(b"\n")[0]))
        return found

    def drop(self, standing: Standing) -> bool:
        """Drop what was looked at; false if it is there no longer, or another verdict is."""
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
