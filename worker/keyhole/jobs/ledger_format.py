"""The format of the ledger's records in Redis. Only this module depends on the format.

A record consists of the time of its creation, a space, and the entry:

    1764340000.123456 {"id": "…", "jobs": […], "queue": "…", …}

- The time is in epoch seconds, by the ledger's own clock (`keyhole.jobs.ledger`).
- The entry is JSON, written by `keyhole.jobs.entry.ENTRY`.

Lua scripts read and write records with the functions in `LUA`. Python reads them with `read_record` and
`read_records`.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, cast

import redis

from keyhole import versions
from keyhole.jobs.entry import ENTRY, Entry, OpenEntry
from keyhole.store import keys

_log = logging.getLogger(__name__)

#: Lua functions that write and read records.
LUA: Final = """
-- Adds an entry to the ledger, unless the ledger already has it.
-- `open`: zset of the queue's open entries; `records`: hash of all records; `at`: time by the ledger's clock
local function open_entry(open, records, id, json, at)
    local recorded = string.format('%.6f', at)
    if redis.call('HSETNX', records, id, recorded .. ' ' .. json) == 1 then
        redis.call('ZADD', open, 'NX', recorded, id)
    end
end

-- The creation time of a record; nil if it cannot be parsed.
local function recorded_at(record)
    return tonumber(string.match(record, '^[%d.]+'))
end

-- The entry in a record as a table; nil if there is no record, or the entry cannot be parsed.
local function entry_of(record)
    local readable, entry = pcall(cjson.decode, string.match(record or '', '{.*') or '')
    return readable and type(entry) == 'table' and entry or nil
end
"""


def read_record(entry_id: bytes | str, record: bytes) -> Entry | None:
    """Return the entry in a record. If the record cannot be parsed, log a warning and return `None`."""
    (entry,) = read_entries([(entry_id, record.partition(b" ")[2])])
    return entry


def read_entries(texts: Iterable[tuple[bytes | str, bytes]]) -> list[Entry | None]:
    """Parse entries from JSON texts, and return `None` for each text that cannot be parsed.

    `texts` contains pairs of a name for the log and a JSON text. One warning covers all texts that cannot be
    parsed, because during an upgrade there can be many entries of the later version.
    """
    entries: list[Entry | None] = []
    unreadable: list[tuple[bytes | str, str]] = []
    for name, text in texts:
        try:
            entries.append(ENTRY.validate_json(text))
        except ValueError as error:  # ValidationError and UnicodeDecodeError are subclasses of ValueError
            entries.append(None)
            unreadable.append((name, versions.why_unreadable(error)))
    if unreadable:
        count, (name, why) = len(unreadable), unreadable[0]
        _log.warning("%d ledger entries cannot be read and are not changed, such as %r: %s", count, name, why)
    return entries


def read_records(client: redis.Redis, found: Sequence[tuple[bytes, float]]) -> list[OpenEntry]:
    """Return the open entries with these ids.

    `found` contains pairs of an id and the time of the entry's last activity (epoch seconds).

    Ids of entries that are complete are skipped, because the ledger has deleted their records. A record that
    cannot be parsed, such as a record of a later version of Keyhole, is logged and stays in the ledger.
    """
    if not found:
        return []
    records = client.hmget(keys.LEDGER_ENTRIES, [entry_id for entry_id, _ in found])
    open_records = [
        (entry_id, active_at, record)
        for (entry_id, active_at), record in zip(found, cast("list[bytes | None]", records), strict=True)
        if record is not None
    ]
    entries = read_entries((entry_id, record.partition(b" ")[2]) for entry_id, _, record in open_records)
    return [
        OpenEntry(entry, datetime.fromtimestamp(active_at, UTC))
        for entry, (_, active_at, _) in zip(entries, open_records, strict=True)
        if entry is not None
    ]


def ids_by_activity(
    client: redis.Redis, zset: str, *, limit: int, until: float | None = None
) -> list[tuple[bytes, float]]:
    """Return up to `limit` ids of a zset and the times of their last activity, least recent first.

    The times are in epoch seconds. With `until`, return only ids whose last activity was at or before that
    time.
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
    # The return type that redis-py declares covers all options of the method and both protocols. For these
    # options and protocol 2, the response always has the type in this `cast`.
    return cast("list[tuple[bytes, float]]", found)
