"""Every Redis key that Keyhole writes. No other module spells one.

All begin with `keyhole:v1:`.

`obj:<object id>`
    string. The verdict on one object: a header line, then the report as JSON; or, for a key whose latest
    verdict is on a version, `@` and that version's object id. Expires by setting.
`idx:status:<status>`
    zset. Object ids by the time of the scan (epoch seconds). What outlives its record is pruned by whoever
    meets it.
`verdicts`
    stream. One entry for every verdict written: `job` (its id), `report` (JSON). Trimmed to a length.
`lock:tags:<object id>`
    string. The token of the one writer that may tag the object. Expires with the lock.
`ledger:open`
    zset. Ids of entries without all their verdicts, by the last sign of life (epoch seconds). Until struck.
`ledger:entries`
    hash. Entry id: the entry, a JSON object. Until struck.
`ledger:resent`
    hash. Entry id: how often it was sent again. Until struck.
`ledger:published:<entry id>`
    string. A marker: this entry is on the broker, and a duplicate need not be. Expires by setting.
`ledger:done:<entry id>`
    string. A marker: all verdicts of this entry stand. Expires by setting.
`ledger:job-done:<job id>`
    string. A marker: this job of an open entry has its verdict. Until struck; expires by setting.
`ledger:attempts:<job id>`
    string. How often the work on this job was started. Until struck; expires by setting.
`events:counts`
    hash. Name: how often that happened to a message or an event. For ever.

An *object id* is the hash of bucket, key and version; the bare key's has an empty version. The scripts that
keep these keys consistent touch several at once, so they want one server (with replicas, if you like), not a
Redis Cluster, and `maxmemory-policy noeviction`.
"""

import json
from hashlib import blake2b
from typing import Final

_PREFIX: Final = "keyhole:v1"

#: 128 bits: two of a billion objects share an id with a probability of 1 in 10**21.
_OBJECT_ID_BYTES: Final = 16

VERDICTS: Final = f"{_PREFIX}:verdicts"
EVENT_COUNTS: Final = f"{_PREFIX}:events:counts"
LEDGER_OPEN: Final = f"{_PREFIX}:ledger:open"
LEDGER_ENTRIES: Final = f"{_PREFIX}:ledger:entries"
LEDGER_RESENT: Final = f"{_PREFIX}:ledger:resent"

#: What a script puts an id behind, where it learns the ids only as it runs.
RECORD_PREFIX: Final = f"{_PREFIX}:obj:"
JOB_DONE_PREFIX: Final = f"{_PREFIX}:ledger:job-done:"
ATTEMPTS_PREFIX: Final = f"{_PREFIX}:ledger:attempts:"


def object_id(bucket: str, key: str, version_id: str | None) -> str:
    """The id of an object: 32 hexadecimal digits. Hashed as JSON, in which no two triples read the same."""
    triple = json.dumps([bucket, key, version_id or ""])
    return blake2b(triple.encode(), digest_size=_OBJECT_ID_BYTES).hexdigest()


def record(object_id: str) -> str:
    """Where the verdict on an object lies."""
    return RECORD_PREFIX + object_id


def status_index(status: str) -> str:
    """Where the ids of the objects with this status lie."""
    return f"{_PREFIX}:idx:status:{status}"


def tag_lock(object_id: str) -> str:
    """The lock of whoever writes the object's tags."""
    return f"{_PREFIX}:lock:tags:{object_id}"


def entry_done(entry_id: str) -> str:
    """The marker of a ledger entry whose verdicts stand."""
    return f"{_PREFIX}:ledger:done:{entry_id}"


def entry_published(entry_id: str) -> str:
    """The marker of a ledger entry that was published a short while ago."""
    return f"{_PREFIX}:ledger:published:{entry_id}"


def job_done(job_id: str) -> str:
    """The marker of a job whose verdict stands while its entry is still open."""
    return JOB_DONE_PREFIX + job_id


def attempts(job_id: str) -> str:
    """The count of starts of the work on a job."""
    return ATTEMPTS_PREFIX + job_id
