"""Every Redis key that Keyhole writes. Only this module builds keys.

All keys begin with `keyhole:{v1}:`. The braces are a Redis Cluster's *hash tag*: a cluster computes the hash
slot of a key only from the text in the braces. So all keys of Keyhole are in one hash slot, on one node, and
scripts and transactions can use several of them. A server without cluster mode ignores the braces.

`v1` is the version of this schema. It changes only if an older Keyhole would misread the keys of a newer one.
Adding a key or a field does not change it, so an older and a newer Keyhole can work on the same keys at the
same time. With another version, Keyhole begins with empty data, and ignores the keys of the old version.

Times are Unix time in seconds, unless stated otherwise. "Expires by setting" means that a setting states how
long the key exists. The glossary of `jobs.ledger` explains the words *entry*, *open*, *lease*, *activity*,
*postponed* and *complete*.

`obj:<object id>`
    string. The verdict on one object: a header line, then the packed report (`results.record`). For an object
    id without a version, the record can point to a version: if the latest verdict is on a version of the
    object, `@` and the object id of this version replace the report. Expires by setting.
`idx:status:<status>`
    zset. Object ids, scored by the time of the scan. Readers remove ids whose record has expired.
`idx:keys:<hash of bucket>`
    zset. The object keys of a bucket that have verdicts. All scores are 0, so Redis sorts the keys by their
    bytes. Readers remove keys whose record has expired.
`rows:<the first two digits of object ids>`
    hash. For each verdict on an object, by the object id (16 bytes, binary): the row that searches compare
    (`results.rows`). There are 256 hashes, so that a search can read the rows of all objects piece by piece.
    Readers remove the rows whose record has expired.
`past:<object id>`
    list. The earlier verdicts on the object that differ from the verdict after them, the latest first
    (`results.history`). Expires by setting.
`verdicts`
    stream. One entry for each written verdict: `job` (the job's id) and `report` (JSON). Redis deletes the
    oldest entries when the stream exceeds a maximum length.
`<kind>:debt:<debt id>`
    hash. A debt (`jobs.debts`): what Keyhole still has to write or to send. The kind `tags` is for the tags
    of objects, and the id is an object id. The kinds `sink:sns`, `sink:eventbridge`, `sink:sqs` and
    `sink:webhook` are for events to these sinks, and the id is the id of the event. Fields: `debt` (JSON, see
    `results.tags` and `results.sinks.event`), `noted` (token of the process that recorded the debt), `holder`
    (token of the writer that pays the debt), `times` (the number of failed attempts), `since` and `last`
    (times of the first and last failed attempt), `error` (of the last failed attempt), `reason:<code>` (the
    number of failures with this reason), `late_until` (the time until which a write without a response from
    S3 can take effect). Removed when the debt is paid or given up.
`<kind>:held`
    zset. Ids of debts that a writer is paying, scored by the time at which the writer is considered lost.
`<kind>:late`
    zset. Ids of objects whose tags are correct now. S3 did not respond to an earlier write of tags, so this
    write can still take effect and change them. Scored by the time of the next check.
`<kind>:owed`
    zset. Ids of debts that are not paid yet, scored by the time of the next attempt.
`tags:turn`
    string. The token of the only task that may wait for rate limits to write owed tags. Expires.
`ledger:open:<queue>`
    zset. Ids of open entries that are neither postponed nor split, scored by their last activity. Removed
    when the entry is complete.
`ledger:entries`
    hash. For each open entry, by its id: the time when it was recorded, a space, the entry (JSON). Removed
    when the entry is complete.
`ledger:begun`
    hash. For each queue: the time at which the latest of the entries that workers have begun was recorded.
`ledger:resent`
    hash. For each open entry, by its id: the number of resends without progress, a space, and the number of
    jobs in the entry that had verdicts at the last resend. Removed when the entry is complete.
`ledger:clock`
    hash. The last reading of the ledger's clock: `server` (the server's clock) and `ledger` (the ledger's
    clock, which never goes back).
`ledger:held:<queue>`
    zset. Ids of leased entries, scored by the last heartbeat of the worker that works on the entry. Removed
    when the worker releases the lease, or the lease expires.
`ledger:holders`
    hash. For each leased entry, by its id: the name of the worker process that acquired the lease. Removed
    when the worker releases the lease. If the worker is lost, its name remains, and tells the next worker
    that a worker was lost.
`alive:<worker process>`
    string. Exists while this process is alive. The value is the age of its oldest lease in seconds.
    Expires.
`failures:<minute>`
    hash. For each reason and bucket, separated by a space: the number of undecided attempts in this minute.
    Minutes are counted since 1970 by the ledger's clock. Expires.
`workers`
    zset. Names of the workers that take work, scored by the time at which each worker last recorded that it
    takes work. A worker removes the names whose time is too old.
`workers:rules`
    hash. For each of these names: the time of its last record, a space, and the ruleset of the worker.
`workers:sinks`
    hash. The same with the sinks of the worker, separated by commas.
`workers:queues`
    hash. The same with the queues whose messages the worker takes, separated by commas.
`ledger:split`
    set. Ids of open entries that were split: new entries, each with some of the jobs, replace the original
    entry.
`ledger:later`
    zset. Ids of postponed entries, scored by the time at which they are due.
`ledger:published:<entry id>`
    string. Exists for a while after this entry was published, so that duplicates are not published. Expires
    by setting.
`ledger:done:<entry id>`
    string. Exists after this entry was completed: all its verdicts are written. Expires by setting.
`ledger:job-done:<job id>`
    string. Exists if this job of an open entry has a verdict. Removed when the entry is complete, or expires
    by setting.
`ledger:attempts:<job id>`
    hash. The attempts to scan a job without a verdict: `started` (the process that is scanning it), `lost`
    (the number of workers that were lost while they scanned it), `undecided` (the number of undecided
    attempts), `since` and `last` (times of the first and last undecided attempt), `error` (of the last
    undecided attempt), `reason:<code>` (the number of undecided attempts with this reason). Removed when
    the entry is complete, or expires by setting.
`events:counts`
    hash. For each outcome: the number of messages or events with this outcome. Kept forever. Its fields are
    fixed; an earlier version also added fields with names from messages, which Keyhole removes.
`dead`
    zset. Ids of dead letters, scored by the last failure. Removed when the letter is retried or dropped.
`dead:letter:<letter id>`
    hash. The failed work: `kind`, `source`, `body` (bytes), `size` (of the whole body in bytes), `reason`,
    `first` and `last` (times), `times` (the number of failures). Removed with its id in `dead`.
`dead:receives:<letter id>`
    string. The number of times that listeners received a message and could not parse it. When this number
    reaches the setting `dead_after`, the message becomes a dead letter. Expires.
`listening:<list>:listeners`
    set. Ids of the listeners of this list that may have unacknowledged messages. This key and the next two
    keys are on the Redis server that contains the list.
`listening:<list>:alive:<listener id>`
    string. A listener's heartbeat. Expires.
`listening:<list>:held:<listener id>`
    list. Messages that a listener took and has not acknowledged. When the listener's heartbeat has expired,
    another listener returns these messages to the list.
`audits`
    zset. Ids of audits, scored by their start. Readers remove ids of audits that have expired.
`audit:<id>`
    hash. `spec` (JSON), `state`, `reason`, `started` and `ended` (times), `ruleset`, `scanner`, `page` (the
    number of the next page), `starts` (how often workers began this page), `cursor` (where this page
    begins), `after` (the last key before this page), `listed_all` (all pages are listed), `ends_as` and
    `ends_for` (the state and the reason with which the audit ends after its last batch).
    After the audit has ended, this key and the keys of its parts expire by setting.
`audit:<id>:totals`
    hash. Counters by name. `status:<status>` counts verdicts, `nanodollars` counts costs.
`audit:<id>:outstanding`
    hash. For each batch of listed objects that has no results yet, by its id: the ledger's entry (JSON).
`audit:<id>:unsent`
    list. Ids of outstanding batches that are not published yet.
`audit:<id>:results:<batch id>`
    hash. For each job of an outstanding batch, by its id: its outcome. Removed when the results of
    the whole batch are added to the totals.
`audit:<id>:objects`
    list. Each string consists of rows of 18 bytes. A row contains the object id (16 bytes, binary), a code
    for the status (1 byte), and a code for how the audit obtained the status (1 byte).
`audit:<id>:owners`
    list, only if the audit has an owner tag. For each string of rows in the list above, a string with the
    owners of these rows (`keyhole.intake.audits.owners`).
`audit:<id>:findings`
    list. Findings about the bucket (JSON).
`audit:<id>:page`
    string. The token of the worker that is listing the next page. Expires, so that another worker can list
    the page if this worker is lost.
`schedule:<name>`
    hash. `audit` (the id of the schedule's last audit), `skipped` (how often the schedule was due while its
    last audit was running or paused), `skip` (the audit id of the last skipped run). Expires if the
    schedule has not been due for longer than the longest interval that a schedule can have.
`beat:<name>`, `beat::schedule`, `beat::statics`, `beat::lock`
    hash, zset, set, string. RedBeat writes and documents these keys. `beat:<name>` contains a schedule's
    definition and its last run. `beat::schedule` contains the schedules, scored by the earliest time at which
    they can be due. `beat::statics` contains the names of the schedules in the schedule file. When a schedule
    is no longer in the file, RedBeat removes the schedule from these three keys. `beat::lock` contains the
    token of the only active scheduler, and expires.
`rate:<bucket>`
    string. The earliest time of the next request to this bucket, a space, and the time when this value was
    written, both in microseconds since 1970. Expires one minute after the next request can begin.
`sweep`
    string. The time of the last sweep, by the ledger's clock.

An *object id* is the hash of bucket, key and version. For an object without a version, it is the hash of
bucket and key. The server needs `maxmemory-policy noeviction`: with another policy, a server that is out of
memory deletes keys that Keyhole still needs.
"""

import json
from hashlib import blake2b
from typing import Final

_PREFIX: Final = "keyhole:{v1}"

#: A text with the same hash tag as all keys, from which the hash slot is computed. Keyhole never writes a key
#: with this name.
IN_SLOT: Final = f"{_PREFIX}:"

#: Encodes text as JSON. The encoder is called once for each text, because encoding a list of three texts
#: takes three times as long, and audits need the id of every object.
_as_json: Final = json.JSONEncoder().encode
#: 128 bits. The probability that two of a billion objects have the same id is 1 in 10**21.
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
DEAD: Final = f"{_PREFIX}:dead"
AUDITS: Final = f"{_PREFIX}:audits"
SWEEP: Final = f"{_PREFIX}:sweep"
WORKERS: Final = f"{_PREFIX}:workers"
WORKER_RULES: Final = f"{_PREFIX}:workers:rules"
WORKER_SINKS: Final = f"{_PREFIX}:workers:sinks"
WORKER_QUEUES: Final = f"{_PREFIX}:workers:queues"

#: The prefix of all keys that RedBeat writes.
BEAT_PREFIX: Final = f"{_PREFIX}:beat:"
BEAT_NAMES: Final = f"{BEAT_PREFIX}:statics"
BEAT_LOCK: Final = f"{BEAT_PREFIX}:lock"

#: Prefixes of keys. A script appends an id to the prefix, because the id is known only when the script runs.
RECORD_PREFIX: Final = f"{_PREFIX}:obj:"
STATUS_INDEX_PREFIX: Final = f"{_PREFIX}:idx:status:"
ROWS_PREFIX: Final = f"{_PREFIX}:rows:"
PAST_PREFIX: Final = f"{_PREFIX}:past:"
AUDIT_PREFIX: Final = f"{_PREFIX}:audit:"
JOB_DONE_PREFIX: Final = f"{_PREFIX}:ledger:job-done:"
ATTEMPTS_PREFIX: Final = f"{_PREFIX}:ledger:attempts:"
FAILURES_PREFIX: Final = f"{_PREFIX}:failures:"
LEDGER_OPEN_PREFIX: Final = f"{_PREFIX}:ledger:open:"


def object_id(bucket: str, key: str, version_id: str | None) -> str:
    """Return the id of an object: 32 hexadecimal digits.

    The function hashes a JSON array of bucket, key and version. Joining the three texts would not be enough,
    because different objects can have the same joined text: `a` + `bc` and `ab` + `c`.
    """
    return _hash(f"[{_as_json(bucket)}, {_as_json(key)}, {_as_json(version_id or '')}]")


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=_OBJECT_ID_BYTES).hexdigest()


def record(object_id: str) -> str:
    """Return the key of an object's verdict."""
    return RECORD_PREFIX + object_id


def status_index(status: str) -> str:
    """Return the key of the set of ids of all objects with this status."""
    return STATUS_INDEX_PREFIX + status


def rows(digits: str) -> str:
    """Return the key of the rows of all object ids that begin with these two digits."""
    return ROWS_PREFIX + digits


def past(object_id: str) -> str:
    """Return the key of the earlier verdicts on an object."""
    return PAST_PREFIX + object_id


def key_index(bucket: str) -> str:
    """Return the key of the set of a bucket's object keys that have verdicts."""
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
    """Return the key of the earliest time of the next request to a bucket."""
    return f"{_PREFIX}:rate:{_hash(bucket)}"


def debt(kind: str, debt_id: str) -> str:
    """Return the key of a debt: the tags or the event that Keyhole still has to write or to send."""
    return f"{_PREFIX}:{kind}:debt:{debt_id}"


def debts(kind: str, part: str) -> str:
    """Return the key of the set of debts of a kind that are `held`, `owed` or `late`."""
    return f"{_PREFIX}:{kind}:{part}"


def ledger_open(queue: str) -> str:
    """Return the key of the set of open entries of a queue."""
    return LEDGER_OPEN_PREFIX + queue


def ledger_held(queue: str) -> str:
    """Return the key of the set of leased entries of a queue."""
    return f"{_PREFIX}:ledger:held:{queue}"


def entry_done(entry_id: str) -> str:
    """Return the key that marks an entry as complete: all its verdicts are written."""
    return f"{_PREFIX}:ledger:done:{entry_id}"


def entry_published(entry_id: str) -> str:
    """Return the key that exists for a while after an entry was published."""
    return f"{_PREFIX}:ledger:published:{entry_id}"


def job_done(job_id: str) -> str:
    """Return the key that exists if a job of an open entry has a verdict."""
    return JOB_DONE_PREFIX + job_id


def alive(process: str) -> str:
    """Return the key that exists while a worker process is alive."""
    return f"{_PREFIX}:alive:{process}"


def failures(minute: int) -> str:
    """Return the key of the numbers of undecided attempts in a minute since 1970."""
    return f"{FAILURES_PREFIX}{minute}"


def attempts(job_id: str) -> str:
    """Return the key of the attempts to scan a job's object."""
    return ATTEMPTS_PREFIX + job_id


def dead_letter(letter_id: str) -> str:
    """Return the key of a dead letter."""
    return f"{_PREFIX}:dead:letter:{letter_id}"


def dead_receives(letter_id: str) -> str:
    """Return the key of the number of times that a listener could not parse a message."""
    return f"{_PREFIX}:dead:receives:{letter_id}"


def listeners(list_key: str) -> str:
    """Return the key of the set of ids of all listeners of a list."""
    return f"{_PREFIX}:listening:{list_key}:listeners"


def listener_alive(list_key: str, listener_id: str) -> str:
    """Return the key of a listener's heartbeat. With an empty id, return the prefix of these keys."""
    return f"{_PREFIX}:listening:{list_key}:alive:{listener_id}"


def listener_holds(list_key: str, listener_id: str) -> str:
    """Return the key of the messages that a listener took and has not acknowledged.

    With an empty id, return the prefix of these keys.
    """
    return f"{_PREFIX}:listening:{list_key}:held:{listener_id}"
