"""Every Redis key that Keyhole writes. No other module spells one.

All begin with `keyhole:v1:`.

`obj:<object id>`
    string. The verdict on one object: a header line, then the report as JSON; or, for a key whose latest
    verdict is on a version, `@` and that version's object id. Expires by setting.
`idx:status:<status>`
    zset. Object ids by the time of the scan (epoch seconds). What outlives its record is pruned by whoever
    meets it.
`idx:keys:<hash of bucket>`
    zset. The keys of a bucket that have verdicts, all with the score 0, so in the order of their bytes. What
    outlives its record is pruned by whoever meets it.
`verdicts`
    stream. One entry for every verdict written: `job` (its id), `report` (JSON). Trimmed to a length.
`tags:debt:<object id>`
    hash. The tags that an object is to have, until it has them: `debt` (JSON), `noted` (token of who noted
    it), `holder` (token of the writer that is at it), `times` (how often that was in vain), `since`, `last`
    (epoch seconds of the first and the last time), `error` (the last one), `reason:<code>` (how often for
    this reason), `late_until` (until when a write that got no answer may have its effect).
`tags:held`
    zset. Ids of objects whose tags are being written, by when the writer is taken for lost (epoch seconds).
`tags:late`
    zset. Ids of objects whose tags are right, while a write that got no answer may still have its effect, by
    when they are looked at once more (epoch seconds).
`tags:owed`
    zset. Ids of objects whose tags could not be written yet, by when that is tried again (epoch seconds).
`ledger:open:<queue>`
    zset. Ids of entries without all their verdicts, by the last sign of life (epoch seconds). Until struck.
`ledger:entries`
    hash. Entry id: when it was noted (epoch seconds), a space, the entry (JSON). Until struck.
`ledger:begun`
    hash. Queue: when the latest entry was noted whose work has begun (epoch seconds).
`ledger:resent`
    hash. Entry id: how often it was sent again without progress, a space, how many of its jobs had their
    verdicts then. Until struck.
`ledger:clock`
    hash. `server` (the server's clock when the ledger's clock was last read), `ledger` (the ledger's clock,
    epoch seconds, which never goes back).
`ledger:held:<queue>`
    zset. Ids of entries that a worker is busy with, by its last heartbeat (epoch seconds). Until let go.
`ledger:holders`
    hash. Entry id: the worker process that is busy with it, or that was lost with it. Until let go.
`alive:<worker process>`
    string. A marker: this process is alive, and for so many seconds it has held what it has held longest.
    Expires.
`failures:<minute>`
    hash. A reason, a space, a bucket: how many scans left an object undecided for that reason in this minute
    (since 1970, by the ledger's clock). Expires.
`ledger:split`
    set. Ids of open entries whose jobs go on as entries of their own.
`ledger:later`
    zset. Ids of open entries that are postponed, by when they are due (epoch seconds).
`ledger:published:<entry id>`
    string. A marker: this entry is on the broker, and a duplicate need not be. Expires by setting.
`ledger:done:<entry id>`
    string. A marker: all verdicts of this entry stand. Expires by setting.
`ledger:job-done:<job id>`
    string. A marker: this job of an open entry has its verdict. Until struck; expires by setting.
`ledger:attempts:<job id>`
    hash. Attempts to scan an object that has no verdict yet: `started` (the process that is busy with it),
    `lost` (how many workers were lost with it), `undecided` (how often it stayed so), `since`, `last` (epoch
    seconds of the first and the last time), `error` (the last one), `reason:<code>` (how often for this
    reason). Until struck; expires by setting.
`events:counts`
    hash. Name: how often that happened to a message or an event. For ever.
`dead`
    zset. Ids of dead letters by the last time that they were in vain (epoch seconds). Until retried or
    dropped.
`dead:letter:<letter id>`
    hash. What was in vain: `kind`, `source`, `body` (bytes), `size` (of the whole body), `reason`, `first`,
    `last` (epoch seconds), `times`. As long as its id is in `dead`.
`dead:receives:<letter id>`
    string. How often a message was received and not understood, before it is a dead letter. Expires.
`listening:<list>:listeners`
    set. Ids of those who may hold messages of this list of events. This and the next two lie on its server.
`listening:<list>:alive:<listener id>`
    string. A listener's sign of life. Expires.
`listening:<list>:held:<listener id>`
    list. Messages that a listener took and has not acknowledged. Without its sign of life, others return
    them.
`audits`
    zset. Ids of audits by their start (epoch seconds). Pruned of what has expired by whoever meets it.
`audit:<id>`
    hash. `spec` (JSON), `state`, `reason`, `started`, `ended` (epoch seconds), `ruleset`, `scanner`, `page`
    (the number of the next one), `starts` (how often that was begun), `cursor` (where it begins), `after`
    (the last key before it), `listed_all`, `ends_as` and `ends_for` (in which state it ends with its last
    batch, and why).
    This and the next five expire by setting once the audit has ended.
`audit:<id>:totals`
    hash. Counters by name; `status:<status>` count verdicts, `nanodollars` money.
`audit:<id>:outstanding`
    hash. Ids of batches that were cut from listed pages and have no results yet: the ledger's entry (JSON).
`audit:<id>:unsent`
    list. Ids of those of them that are not sent yet.
`audit:<id>:results:<batch id>`
    hash. Job id: what became of it. Until all of an outstanding batch are there; then they are counted.
`audit:<id>:objects`
    list. Strings of rows of 18 bytes: object id (16, binary), status, how it came by it.
`audit:<id>:findings`
    list. What was found about the bucket (JSON).
`audit:<id>:page`
    string. The token of whoever lists the next page. Expires, so that a lost page is listed by another.
`schedule:<name>`
    hash. `audit` (the last one that it began), `skipped` (how often it was due while that still went on),
    `skip` (the id of the last such time). Expires when it was not due for longer than it can be.
`beat:<name>`, `beat::schedule`, `beat::statics`, `beat::lock`
    hash, zset, set, string. RedBeat's, which says what is in them: a schedule's definition and when it was
    due last; schedules by when they may be due; those of the file; the token of the one scheduler at work.
    The lock expires; the others are removed when the schedule is no longer in the file.
`rate:<bucket>`
    string. When the next request to this bucket may begin, a space, when that was said (microseconds since
    1970). Expires when it is past.
`sweep`
    string. When the ledger was swept last, by its clock (epoch seconds).

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
LEDGER_ENTRIES: Final = f"{_PREFIX}:ledger:entries"
LEDGER_BEGUN: Final = f"{_PREFIX}:ledger:begun"
LEDGER_RESENT: Final = f"{_PREFIX}:ledger:resent"
LEDGER_CLOCK: Final = f"{_PREFIX}:ledger:clock"
LEDGER_HOLDERS: Final = f"{_PREFIX}:ledger:holders"
LEDGER_SPLIT: Final = f"{_PREFIX}:ledger:split"
LEDGER_LATER: Final = f"{_PREFIX}:ledger:later"
TAGS_HELD: Final = f"{_PREFIX}:tags:held"
TAGS_LATE: Final = f"{_PREFIX}:tags:late"
TAGS_OWED: Final = f"{_PREFIX}:tags:owed"
DEAD: Final = f"{_PREFIX}:dead"
AUDITS: Final = f"{_PREFIX}:audits"
SWEEP: Final = f"{_PREFIX}:sweep"

#: What RedBeat puts before all that it writes.
BEAT_PREFIX: Final = f"{_PREFIX}:beat:"
BEAT_NAMES: Final = f"{BEAT_PREFIX}:statics"
BEAT_LOCK: Final = f"{BEAT_PREFIX}:lock"

#: What a script puts an id behind, where it learns the ids only as it runs.
RECORD_PREFIX: Final = f"{_PREFIX}:obj:"
AUDIT_PREFIX: Final = f"{_PREFIX}:audit:"
JOB_DONE_PREFIX: Final = f"{_PREFIX}:ledger:job-done:"
ATTEMPTS_PREFIX: Final = f"{_PREFIX}:ledger:attempts:"
FAILURES_PREFIX: Final = f"{_PREFIX}:failures:"
LEDGER_OPEN_PREFIX: Final = f"{_PREFIX}:ledger:open:"


def object_id(bucket: str, key: str, version_id: str | None) -> str:
    """The id of an object: 32 hexadecimal digits. Hashed as JSON, in which no two triples read the same."""
    return _hash(json.dumps([bucket, key, version_id or ""]))


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=_OBJECT_ID_BYTES).hexdigest()


def record(object_id: str) -> str:
    """Where the verdict on an object lies."""
    return RECORD_PREFIX + object_id


def status_index(status: str) -> str:
    """Where the ids of the objects with this status lie."""
    return f"{_PREFIX}:idx:status:{status}"


def key_index(bucket: str) -> str:
    """Where the keys of a bucket that have verdicts lie."""
    return f"{_PREFIX}:idx:keys:{_hash(bucket)}"


def audit(audit_id: str, part: str = "") -> str:
    """What an audit is, or a part of it: `totals`, `outstanding`, `unsent`, `objects`, `findings`, `page`."""
    return AUDIT_PREFIX + audit_id + (f":{part}" if part else "")


def batch_results(audit_id: str, batch_id: str) -> str:
    """The results of an outstanding batch."""
    return audit(audit_id, f"results:{batch_id}")


def schedule(name: str) -> str:
    """What a schedule did last."""
    return f"{_PREFIX}:schedule:{name}"


def beat_entry(name: str) -> str:
    """RedBeat's entry of a schedule."""
    return BEAT_PREFIX + name


def rate(bucket: str) -> str:
    """When the next request to a bucket may begin."""
    return f"{_PREFIX}:rate:{_hash(bucket)}"


def tag_debt(object_id: str) -> str:
    """The tags that an object is to have and does not have yet."""
    return f"{_PREFIX}:tags:debt:{object_id}"


def ledger_open(queue: str) -> str:
    """Where the open entries of a queue lie."""
    return LEDGER_OPEN_PREFIX + queue


def ledger_held(queue: str) -> str:
    """Where the entries of a queue lie that a worker is busy with."""
    return f"{_PREFIX}:ledger:held:{queue}"


def entry_done(entry_id: str) -> str:
    """The marker of a ledger entry whose verdicts stand."""
    return f"{_PREFIX}:ledger:done:{entry_id}"


def entry_published(entry_id: str) -> str:
    """The marker of a ledger entry that was published a short while ago."""
    return f"{_PREFIX}:ledger:published:{entry_id}"


def job_done(job_id: str) -> str:
    """The marker of a job whose verdict stands while its entry is still open."""
    return JOB_DONE_PREFIX + job_id


def alive(process: str) -> str:
    """The marker of a worker process that is alive."""
    return f"{_PREFIX}:alive:{process}"


def failures(minute: int) -> str:
    """How scans failed in a minute."""
    return f"{FAILURES_PREFIX}{minute}"


def attempts(job_id: str) -> str:
    """What is known of the attempts to scan a job's object."""
    return ATTEMPTS_PREFIX + job_id


def dead_letter(letter_id: str) -> str:
    """Where a dead letter lies."""
    return f"{_PREFIX}:dead:letter:{letter_id}"


def dead_receives(letter_id: str) -> str:
    """The count of receives of a message that is not understood."""
    return f"{_PREFIX}:dead:receives:{letter_id}"


def listeners(list_key: str) -> str:
    """The ids of those who listen to a list of events."""
    return f"{_PREFIX}:listening:{list_key}:listeners"


def listener_alive(list_key: str, listener_id: str) -> str:
    """A listener's sign of life; with no id, what stands before one."""
    return f"{_PREFIX}:listening:{list_key}:alive:{listener_id}"


def listener_holds(list_key: str, listener_id: str) -> str:
    """What a listener has taken from a list of events; with no id, what stands before one."""
    return f"{_PREFIX}:listening:{list_key}:held:{listener_id}"
