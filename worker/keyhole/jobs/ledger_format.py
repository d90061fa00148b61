"""How a record of the ledger is written in Redis. Only this module knows it.

A record is the time when it was made, a space, and the entry:

    1764340000.123456 {"id": "…", "jobs": […], "queue": "…", …}

- The time is in epoch seconds, by the ledger's clock.
- The entry is `keyhole.jobs.entry.ENTRY` as JSON.

Lua scripts use the functions in `LUA`; Python uses `read_record` and `read_records`.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, cast

import redis
from pydantic import ValidationError

from keyhole.jobs.entry import ENTRY, Entry, OpenEntry
from keyhole.store import keys

_log = logging.getLogger(__name__)

#: Lua functions that write and read records.
LUA: Final = """
-- Adds an entry to the ledger, unless it is there already.
-- `open`: zset of the queue's open entries; `records`: hash of all records; `at`: the ledger's clock
local function open_entry(open, records, id, json, at)
    local recorded = string.format('%.6f', at)
    if redis.call('HSETNX', records, id, recorded .. ' ' .. json) == 1 then
        redis.call('ZADD', open, 'NX', recorded, id)
    end
end

-- When a record was made; nil if it cannot be read.
local function recorded_at(record)
    return tonumber(string.match(record, '^[%d.]+'))
end

-- The entry of a record as a table; nil if there is no record, or it cannot be read.
local function entry_of(record)
    local readable, entry = pcall(cjson.decode, string.match(record or '', '{.*') or '')
    return readable and type(entry) == 'table' and entry or nil
end
"""


def read_record(entry_id: bytes | str, record: bytes) -> Entry | None:
    """Return the entry of a record. If it cannot be read, log that and return `None`."""
    try:
        return ENTRY.validate_json(record.partition(b" ")[2])
    except ValueError as error:  # pydantic's ValidationError is one, and so is a wrong encoding
        _log.warning("ledger entry %r cannot be read and is not changed: %s", entry_id, _reason(error))
        return None


def read_records(client: redis.Redis, found: Sequence[tuple[bytes, float]]) -> list[OpenEntry]:
    """Return the entries of these ids, each of which comes with its last activity in epoch seconds.

    Entries that are complete by now are left out. So are unreadable ones, such as those of a later version;
    they are logged and stay in the ledger.
    """
    if not found:
        return []
    records = client.hmget(keys.LEDGER_ENTRIES, [entry_id for entry_id, _ in found])
    entries = []
    for (entry_id, active_at), record in zip(found, cast("list[bytes | None]", records), strict=True):
        entry = None if record is None else read_record(entry_id, record)
        if entry is not None:
            entries.append(OpenEntry(entry, datetime.fromtimestamp(active_at, UTC)))
    return entries


def ids_by_activity(
    client: redis.Redis, zset: str, *, limit: int, until: float | None = None
) -> list[tuple[bytes, float]]:
    """Return up to `limit` ids of a zset, the least recently active first, with that time (epoch seconds).

    With `until`, only those whose last activity was before that time.
    """
    found = client.zrange(
        zset,
        "-inf",
        "+inf" if until is None else until,
        byscore=True,
        offset=0,
        num=limit,
        withscores=True,
    )
    # redis-py's type covers every option and protocol; with scores and protocol 2 it is this.
    return cast("list[tuple[bytes, float]]", found)


def _reason(error: ValueError) -> str:
    """The first problem of a record, in one line."""
    if isinstance(error, ValidationError):
        return error.errors(include_url=False, include_context=False)[0]["msg"]
    return str(error)
