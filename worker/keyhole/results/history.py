"""The earlier verdicts on an object, as far as they differ from the verdict that replaced them.

When a verdict replaces another one, and its status, its reasons or its ETag differ, the script that writes
the verdict adds the replaced verdict to a list (`keyhole.store.keys`, `past:`). An object whose verdict never
changed has no list. In a bucket with versions, the history of the bare key (the key without a version) also
contains the changes from one version to the next.
"""

from datetime import UTC, datetime
from typing import Final, NamedTuple, cast
from urllib.parse import unquote

import redis

from keyhole.reasons import Status
from keyhole.store import keys

#: The maximum number of earlier verdicts that Redis stores for an object.
MOST: Final = 10

#: Defines the Lua function `remember`, which stores a verdict that is replaced. An entry is
#: `time of the scan in milliseconds|status|ETag|reasons`; the ETag is percent-encoded.
REMEMBER: Final = f"""
local PAST = '{keys.PAST_PREFIX}'
-- id        the object id of the record
-- old, new  the parsed headers of the replaced verdict and of the new verdict
-- reasons   the reasons of the replaced verdict
-- later     the reasons of the new verdict
-- seconds   seconds until the history expires, '0' for never
local function remember(id, old, new, reasons, later, seconds)
    if old.status == new.status and old.etag == new.etag and reasons == later then return end
    local entry = string.format('%.0f', old.scanned) .. '|' .. old.status .. '|' .. old.etag .. '|' .. reasons
    redis.call('LPUSH', PAST .. id, entry)
    redis.call('LTRIM', PAST .. id, 0, {MOST - 1})
    if seconds ~= '0' then redis.call('EXPIRE', PAST .. id, seconds) end
end
"""


class Past(NamedTuple):
    """An earlier verdict on an object. `etag` has no quotes; it is `None` if it is unknown."""

    scanned_at: datetime
    status: Status
    reasons: tuple[str, ...]
    etag: str | None


def history(client: redis.Redis, bucket: str, key: str, version_id: str | None = None) -> list[Past]:
    """Return the earlier verdicts on an object that differ from the next one, the latest first.

    An entry that Keyhole cannot parse is skipped.
    """
    name = keys.past(keys.object_id(bucket, key, version_id))
    entries = cast("list[bytes]", client.lrange(name, 0, MOST - 1))  # the client does not decode responses
    return [past for entry in entries if (past := _parsed(entry)) is not None]


def _parsed(entry: bytes) -> Past | None:
    try:
        scanned_ms, status, etag, reasons = entry.decode().split("|", 3)
        moment = datetime.fromtimestamp(int(scanned_ms) / 1000, UTC)
        return Past(moment, Status(status), tuple(filter(None, reasons.split(","))), unquote(etag) or None)
    except (ValueError, OverflowError, OSError):
        return None
