"""Every Redis key that Keyhole writes. No other module spells one.

All begin with `keyhole:v1:`.

`obj:<object id>`
    string. The verdict on one object: a header line, then the report as JSON; or, for a key whose latest
    verdict is on a version, `@` and that version's object id. Expires by setting.
`idx:status:<status>`
    zset. Object ids by the time of the scan (epoch seconds). A reader prunes ids whose record has expired.
`idx:keys:<hash of bucket>`
    zset. The keys of a bucket that have verdicts, all with the score 0, so in the order of their bytes. A
    reader prunes keys whose record has expired.
`verdicts`
    stream. One entry for every verdict written: `job` (its id), `report` (JSON). Trimmed to a length.
`tags:debt:<object id>`
    hash. The tags that an object should get, until it has them: `debt` (JSON), `noted` (token of the
    process that recorded it), `holder` (token of the writer that works on it), `times` (the number of
    failed attempts), `since`, `last` (epoch seconds of the first and the last one), `error` (the last one),
    `reason:<code>` (the number of failures for this reason), `late_until` (when an unanswered write can
    no longer take effect).
`tags:held`
    zset. Ids of objects whose tags are being written, by the time when the writer counts as lost (epoch
    seconds).
`tags:late`
    zset. Ids of objects whose tags are right, while an unanswered write may still have its effect, by the
    time of the next look (epoch seconds).
`tags:owed`
    zset. Ids of objects whose tags could not be written yet, by the next attempt (epoch seconds).
`ledger:open:<queue>`
    zset. Ids of entries without all their verdicts, by their last activity (epoch seconds). Until complete.
`ledger:entries`
    hash. Entry id: when it was recorded (epoch seconds), a space, the entry (JSON). Until complete.
`ledger:begun`
    hash. Queue: when the newest of the entries that workers have begun was recorded (epoch seconds).
`ledger:resent`
    hash. Entry id: the number of times it was sent again without progress, a space, the number of its jobs
    that had verdicts then. Until complete.
`ledger:clock`
    hash. `server` (the server's clock when the ledger's clock was last read), `ledger` (the ledger's clock,
    epoch seconds, which never goes back).
`ledger:held:<queue>`
    zset. Ids of entries that a worker is busy with, by its last heartbeat (epoch seconds). Until released.
`ledger:holders`
    hash. Entry id: the worker process that is busy with it, or that was lost with it. Until released.
`alive:<worker process>`
    string. A marker: this process is alive. The value: for how many seconds it has held its oldest lease.
    Expires.
`failures:<minute>`
    hash. A reason, a space, a bucket: how many scans left an object undecided for that reason in this minute
    (since 1970, by the ledger's clock). Expires.
`ledger:split`
    set. Ids of open entries whose jobs go on as entries of their own.
`ledger:later`
    zset. Ids of open entries that are postponed, by when they are due (epoch seconds).
`ledger:published:<entry id>`
    string. A marker: this entry is on the broker, so a duplicate is not published. Expires by setting.
`ledger:done:<entry id>`
    string. A marker: all verdicts of this entry stand. Expires by setting.
`ledger:job-done:<job id>`
    string. A marker: this job of an open entry has its verdict. Until complete; expires by setting.
`ledger:attempts:<job id>`
    hash. Attempts to scan an object that has no verdict yet: `started` (the process that is busy with it),
    `lost` (how many workers were lost with it), `undecided` (the number of undecided attempts), `since`,
    `last` (epoch seconds of the first and the last one), `error` (the last one), `reason:<code>` (the number
    of those for this reason). Until complete; expires by setting.
`events:counts`
    hash. Name: the number of messages or events with this outcome. Forever.
`dead`
    zset. Ids of dead letters by the time of the last failure (epoch seconds). Until retried or dropped.
`dead:letter:<letter id>`
    hash. The work that failed: `kind`, `source`, `body` (bytes), `size` (of the whole body), `reason`,
    `first`, `last` (epoch seconds), `times`. As long as its id is in `dead`.
`dead:receives:<letter id>`
    string. The number of times that a message was received and not understood, before it becomes a dead
    letter. Expires.
`listening:<list>:listeners`
    set. Ids of listeners that may hold messages of this list. This key and the next two are on its server.
`listening:<list>:alive:<listener id>`
    string. A listener's heartbeat. Expires.
`listening:<list>:held:<listener id>`
    list. Messages that a listener took and has not acknowledged. Without its heartbeat, others return
    them.
`audits`
    zset. Ids of audits by their start (epoch seconds). A reader prunes those that have expired.
`audit:<id>`
    hash. `spec` (JSON), `state`, `reason`, `started`, `ended` (epoch seconds), `ruleset`, `scanner`, `page`
    (the number of the next one), `starts` (how often that page was begun), `cursor` (where it begins),
    `after` (the last key before it), `listed_all`, `ends_as` and `ends_for` (in which state the audit ends
    with its last batch, and why).
    This and the next five expire by setting once the audit has ended.
`audit:<id>:totals`
    hash. Counters by name; `status:<status>` count verdicts, `nanodollars` money.
`audit:<id>:outstanding`
    hash. Ids of batches that were cut from listed pages and have no results yet: the ledger's entry (JSON).
`audit:<id>:unsent`
    list. Ids of the outstanding batches that are not sent yet.
`audit:<id>:results:<batch id>`
    hash. Job id: its outcome. Until all results of an outstanding batch are there; then they are counted.
`audit:<id>:objects`
    list. Strings of rows of 18 bytes: object id (16, binary), status, how it got that status.
`audit:<id>:findings`
    list. Findings about the bucket (JSON).
`audit:<id>:page`
    string. The token of the worker that lists the next page. Expires, so that another can list a lost page.
`schedule:<name>`
    hash. `audit` (the last one that it began), `skipped` (how often it was due while that audit still ran),
    `skip` (the id of the last such time). Expires when it was not due for longer than any interval.
`beat:<name>`, `beat::schedule`, `beat::statics`, `beat::lock`
    hash, zset, set, string. RedBeat's, and documented there: a schedule's definition and when it was
    due last; schedules by when they may be due; those of the file; the token of the one scheduler at work.
    The lock expires; the others are removed when the schedule is no longer in the file.
`rate:<bucket>`
    string. When the next request to this bucket may begin, a space, when that was written (microseconds since
    1970). Expires when it is past.
`sweep`
    string. When the ledger was swept last, by its clock (epoch seconds).

An *object id* is the hash of bucket, key and version; without a version, it is the bare key's. The scripts
that keep these keys consistent use several at once, so they need one server (replicas are fine), not a Redis
Cluster, and `maxmemory-policy noeviction`.
"""

import json
from hashlib import blake2b
from typing import Final

_PREFIX: Final = "keyhole:v1"

#: 128 bits: the probability that any two of a billion objects share an id is 1 in 10**21.
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

#: The prefix of all keys that RedBeat writes.
BEAT_PREFIX: Final = f"{_PREFIX}:beat:"
BEAT_NAMES: Final = f"{BEAT_PREFIX}:statics"
BEAT_LOCK: Final = f"{BEAT_PREFIX}:lock"

#: Prefixes to which scripts append an id that they only learn as they run.
RECORD_PREFIX: Final = f"{_PREFIX}:obj:"
AUDIT_PREFIX: Final = f"{_PREFIX}:audit:"
JOB_DONE_PREFIX: Final = f"{_PREFIX}:ledger:job-done:"
ATTEMPTS_PREFIX: Final = f"{_PREFIX}:ledger:attempts:"
FAILURES_PREFIX: Final = f"{_PREFIX}:failures:"
LEDGER_OPEN_PREFIX: Final = f"{_PREFIX}:ledger:open:"


def object_id(bucket: str, key: str, version_id: str | None) -> str:
    """Return the id of an object: 32 hexadecimal digits. JSON keeps different triples different."""
    return _hash(json.dumps([bucket, key, version_id or ""]))


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=_OBJECT_ID_BYTES).hexdigest()


def record(object_id: str) -> str:
    """Return the key of an object's verdict."""
    return RECORD_PREFIX + object_id


def status_index(status: str) -> str:
    """Return the key of the ids of all objects with this status."""
    return f"{_PREFIX}:idx:status:{status}"


def key_index(bucket: str) -> str:
    """Return the key of the index of a bucket's object keys that have verdicts."""
    return f"{_PREFIX}:idx:keys:{_hash(bucket)}"


def audit(audit_id: str, part: str = "") -> str:
    """Return the key of an audit, or of a part such as `totals`, `outstanding` or `findings`."""
    return AUDIT_PREFIX + audit_id + (f":{part}" if part else "")


def batch_results(audit_id: str, batch_id: str) -> str:
    """Return the key of the results of an outstanding batch."""
    return audit(audit_id, f"results:{batch_id}")


def schedule(name: str) -> str:
    """Return the key of a schedule's last run."""
    return f"{_PREFIX}:schedule:{name}"


def beat_entry(name: str) -> str:
    """Return the key of RedBeat's entry for a schedule."""
    return BEAT_PREFIX + name


def rate(bucket: str) -> str:
    """Return the key of the time of a bucket's next request."""
    return f"{_PREFIX}:rate:{_hash(bucket)}"


def tag_debt(object_id: str) -> str:
    """Return the key of the tags that an object should get and does not have yet."""
    return f"{_PREFIX}:tags:debt:{object_id}"


def ledger_open(queue: str) -> str:
    """Return the key of the open entries of a queue."""
    return LEDGER_OPEN_PREFIX + queue


def ledger_held(queue: str) -> str:
    """Return the key of the entries of a queue that workers are busy with."""
    return f"{_PREFIX}:ledger:held:{queue}"


def entry_done(entry_id: str) -> str:
    """Return the key of the marker that an entry has all its verdicts."""
    return f"{_PREFIX}:ledger:done:{entry_id}"


def entry_published(entry_id: str) -> str:
    """Return the key of the marker that an entry was published a short while ago."""
    return f"{_PREFIX}:ledger:published:{entry_id}"


def job_done(job_id: str) -> str:
    """Return the key of the marker that a job of an open entry has its verdict."""
    return JOB_DONE_PREFIX + job_id


def alive(process: str) -> str:
    """Return the key of the marker that a worker process is alive."""
    return f"{_PREFIX}:alive:{process}"


def failures(minute: int) -> str:
    """Return the key of the counts of failed scans in a minute."""
    return f"{FAILURES_PREFIX}{minute}"


def attempts(job_id: str) -> str:
    """Return the key of the attempts to scan a job's object."""
    return ATTEMPTS_PREFIX + job_id


def dead_letter(letter_id: str) -> str:
    """Return the key of a dead letter."""
    return f"{_PREFIX}:dead:letter:{letter_id}"


def dead_receives(letter_id: str) -> str:
    """Return the key of the number of times that a message was received and not understood."""
    return f"{_PREFIX}:dead:receives:{letter_id}"


def listeners(list_key: str) -> str:
    """Return the key of the ids of all listeners to a list of events."""
    return f"{_PREFIX}:listening:{list_key}:listeners"


def listener_alive(list_key: str, listener_id: str) -> str:
    """Return the key of a listener's heartbeat; with an empty id, the prefix of such keys."""
    return f"{_PREFIX}:listening:{list_key}:alive:{listener_id}"


def listener_holds(list_key: str, listener_id: str) -> str:
    """Return the key of the messages that a listener holds; with an empty id, the prefix of such keys."""
    return f"{_PREFIX}:listening:{list_key}:held:{listener_id}"
