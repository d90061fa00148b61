"""The search row of a verdict: a short text from which a search decides whether the verdict matches.

Records contain packed reports, and unpacking 100,000 of them takes seconds. So each verdict also has a row:

    time of the scan (6 bytes), status (1 byte), format, reasons (separated by commas), version, bucket, key

The time is in milliseconds since 1970, as a big-endian number, so sorting rows sorts them by their time. Each
status has a letter. The five texts are separated by the byte 0. The key is last, because only a key can
contain this byte. Redis stores the rows of all objects in 256 hashes (`keyhole.store.keys`, `rows:`).
"""

from typing import Final, NamedTuple

from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.store import keys

#: The Lua functions that find and read rows.
LUA: Final = f"""
local ROWS = '{keys.ROWS_PREFIX}'
-- Returns the key of the hash that contains the row of an object id, and the field.
local function row_of(id)
    local function part(first) return tonumber(string.sub(id, first, first + 7), 16) or 0 end
    return ROWS .. string.sub(id, 1, 2), struct.pack('>I4I4I4I4', part(1), part(9), part(17), part(25))
end
-- Returns the reasons in a row; an empty string if there is no row.
local function reasons_in(row)
    return row and string.match(row, '^[^%z]*%z([^%z]*)', 8) or ''
end
"""
PRUNE_SCRIPT: Final = f"""
{LUA}
-- Removes the members of an index that have no record, and their rows.
-- KEYS[1]   the index
-- ARGV[1]   the prefix of the keys of records, which an object id follows
-- ARGV[2..] the object ids to check
-- returns the number of object ids that it removed
local pruned = 0
for i = 2, #ARGV do
    if redis.call('EXISTS', ARGV[1] .. ARGV[i]) == 0 then
        pruned = pruned + redis.call('ZREM', KEYS[1], ARGV[i])
        redis.call('HDEL', row_of(ARGV[i]))
    end
end
return pruned
"""
#: The length of the time in a row, in bytes.
TIME_BYTES: Final = 6
#: The letter of each status.
LETTERS: Final = {
    Status.SAFE: b"s",
    Status.UNSAFE: b"u",
    Status.DAMAGED: b"d",
    Status.REJECTED: b"r",
    Status.UNRECOGNIZED: b"n",
    Status.INCONCLUSIVE: b"i",
    Status.UNREADABLE: b"x",
    Status.FAILED: b"f",
}


class Name(NamedTuple):
    """The name of the object of a row. `version_id` is empty if the object has no version."""

    bucket: str
    key: str
    version_id: str


def row(report: Report, milliseconds: int) -> bytes:
    """Return the row of a report. `milliseconds` is the time of its scan."""
    texts = (report.format, ",".join(report.reasons), report.version_id, report.bucket)
    fields = [(text or "").replace("\0", "").encode() for text in texts]
    head = time_bytes(milliseconds) + LETTERS[report.status]
    return head + b"\0".join([*fields, (report.key or "").encode()])


def time_bytes(milliseconds: int) -> bytes:
    """Return a time as in rows. A time before 1970 becomes 0."""
    return max(0, milliseconds).to_bytes(TIME_BYTES)


def texts_of(found: bytes) -> list[bytes]:
    """Return the five texts of a row: format, reasons, version, bucket and key."""
    return found[TIME_BYTES + 1 :].split(b"\0", 4)


def name_of(found: bytes) -> Name:
    """Return the name of the object of a row."""
    _, _, version_id, bucket, key = texts_of(found)
    return Name(bucket.decode(), key.decode(), version_id.decode())
