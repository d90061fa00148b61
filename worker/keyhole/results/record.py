"""The record of one object in Redis, and the rules that decide which of two verdicts the record stores.

A record is a string of two or three lines: a header, a body and, if there is one, the latest failed attempt.

    last_modified_ms|sequencer|scanned_at_ms|status|etag|job_id
    packed report
    scanned_at_ms|packed report

A record can also be a pointer to another record. The body of a pointer is `@`, followed by the object id of
the other record. If the value of a header field is unknown, the field is empty. The sequencer is in lower
case and has no leading zeros. The ETag and the job id are percent-encoded, so no field can contain a
separator. (A record is not a Redis hash, because a hash with a field of more than 64 bytes takes three times
the memory.)

A packed report begins with `~` (`keyhole.results.packing`). Before it, there can be `=` and a fingerprint of
16 characters (`keyhole.results.fingerprint`). Earlier versions of Keyhole stored the packed report without a
fingerprint, or the report as JSON, which begins with `{`. This version reads all forms. An earlier version
can compare and replace a record with a newer form, but cannot read its report: its command `show` ends with
an error, and its audits scan the object again.

Scans of an object do not always finish in the order in which they began. So a Lua script compares the new
verdict with the stored one, and stores the newer one. The first rule that decides applies:

0. The report of a failed scan does not judge the object. So it never replaces a verdict, and every verdict
   replaces it. There is one exception: if the two scans found different ETags or different modification
   times, they read different objects, and rules 1 to 3 decide. The report of a scan that could not read the
   object is treated like the report of a failed scan, if it is certain that both scans tried to read the same
   object. This is certain if their ETags are equal, or if both scans name the same version. If a scan does
   not replace the verdict because of this rule, the scan is called an *attempt*. The record also stores the
   latest attempt, if this attempt is later than the verdict.
1. If both scans know when the object was last modified, the later modification wins. If these times are equal
   and both scans have a sequencer, the greater sequencer wins. If the sequencers are equal or missing, the
   later scan wins.
2. If one scan does not know when the object was last modified, because it could not read the object, the
   later scan wins.
3. If the values that rules 1 and 2 compare are equal, the greater job id wins. So the order of arrival does
   not matter.

If the new verdict has the same job id as the stored verdict, the job was delivered twice. The new verdict
then changes nothing, unless the stored report is the report of a failed scan.

Known limits:

- Rule 2 depends on the clocks of the hosts.
- A scan that finished later may have read an older object. Rules 1 and 2 can then contradict each other, and
  the verdict that arrives last can win.
- The sequencer is taken from the event that requested the scan. If the object was replaced after this event,
  the scan read a newer object than the sequencer indicates.
"""

import re
from datetime import datetime
from typing import Final, NamedTuple, Self
from urllib.parse import quote

from pydantic import ValidationError

from keyhole import versions
from keyhole.errors import KeyholeError
from keyhole.reasons import MISSING, Reason, Status
from keyhole.results.fingerprint import FINGERPRINT_LENGTH, fingerprint
from keyhole.results.history import REMEMBER
from keyhole.results.packing import UnpackError, pack, unpack
from keyhole.results.rows import LUA
from keyhole.results.sinks.notifier import OWE
from keyhole.scan.report import LastAttempt, Report
from keyhole.store import keys

_HEX: Final = re.compile(r"[0-9a-f]+")
_HEADER_FIELDS: Final = ("last_modified_ms", "sequencer", "scanned_at_ms", "status", "etag", "job_id")
_STATUS: Final = _HEADER_FIELDS.index("status")
#: The first byte of a body that begins with a fingerprint.
_MARKED: Final = b"="

_WRITE: Final = r"""
-- KEYS[1]   record of the object
-- KEYS[2]   record of the bare key; equal to KEYS[1] if the object has no version
-- KEYS[3]   stream of verdicts
-- KEYS[4]   index of the bucket's keys
-- KEYS[5…]  the keys of the function `owe`, of which the clock is the first; none if no sink gets an event
-- ARGV[1]   object id
-- ARGV[2]   object id of the bare key
-- ARGV[3]   header line, without its line feed
-- ARGV[4]   packed report
-- ARGV[5]   job id
-- ARGV[6]   time of the scan in epoch seconds
-- ARGV[7]   seconds until a record expires, 0 for never
-- ARGV[8]   approximate number of entries that the stream keeps
-- ARGV[9]   the object's key
-- ARGV[10]  1 if the version identifies the object: it is not `null`, and the object is not missing
-- ARGV[11]  report as JSON
-- ARGV[12]  id of the event for the sinks
-- ARGV[13]  the event (JSON)
-- ARGV[14]  the row for searches
-- returns 1 if the verdict was written; 2 if the scan failed, and was stored as an attempt beside the
-- existing verdict; 0 if the existing verdict is newer, or has the same job id

-- Returns a record's header fields, its body, and its failed attempt. Returns nil for a corrupt record, so
-- that every verdict replaces it.
local function parse(value)
    local modified, sequencer, scanned, status, etag, job, rest = string.match(
        value, '^(%-?%d*)|(%x*)|(%-?%d+)|(%l*)|([^|\n]*)|([^|\n]*)(.*)$')
    if not modified then return nil end
    local body, attempt = string.match(rest, '^\n([^\n]*)\n?(.*)$')
    return {modified = tonumber(modified), sequencer = sequencer, scanned = tonumber(scanned),
            status = status, etag = etag, job = job, header = string.sub(value, 1, #value - #rest),
            body = body, attempt = attempt or ''}
end

local function unread(verdict) return verdict.status == 'failed' or verdict.status == 'unreadable' end
local function other(one, two)
    return (one.etag ~= '' and two.etag ~= '' and one.etag ~= two.etag)
        or (one.modified and two.modified and one.modified ~= two.modified)
end
local function same(one, two)
    return ARGV[10] == '1' or (one.etag ~= '' and one.etag == two.etag and not other(one, two))
end

-- Returns whether the attempt must not replace the verdict according to rule 0. There are two cases: the scan
-- failed, and nothing proves that it read another object than the verdict's scan; or the scan found the
-- object unreadable, and this object is certainly the object of the verdict.
local function idle(attempt, verdict)
    if attempt.status == 'failed' then return verdict.status ~= 'failed' and not other(attempt, verdict) end
    return attempt.status == 'unreadable' and not unread(verdict) and same(attempt, verdict)
end

local function newer(new, old)
    if not old then return true end
    if idle(new, old) then return false end
    if idle(old, new) then return true end
    if new.job == old.job then return false end
    if new.modified and old.modified then
        if new.modified ~= old.modified then return new.modified > old.modified end
        -- Sequencers are hexadecimal without leading zeros, so the longer one is greater.
        if new.sequencer ~= '' and old.sequencer ~= '' and new.sequencer ~= old.sequencer then
            if #new.sequencer ~= #old.sequencer then return #new.sequencer > #old.sequencer end
            return new.sequencer > old.sequencer
        end
    end
    if new.scanned ~= old.scanned then return new.scanned > old.scanned end
    return new.job > old.job
end

-- Returns the parsed record; false if there is none, nil if it is corrupt.
local function stored(key)
    local value = redis.call('GET', key)
    return value and parse(value)
end

local function store(key, value)
    if ARGV[7] == '0' then
        redis.call('SET', key, value)
    else
        redis.call('SET', key, value, 'EX', ARGV[7])
    end
end

-- Removes an object from the status indexes. The header of the old record names the only index that contains
-- it. If the old record is corrupt or has expired, every index may contain the object.
local function unindex(id, old, may_have_expired)
    if old and old.body then
        if string.sub(old.body, 1, 1) ~= '@' then redis.call('ZREM', INDEX .. old.status, id) end
    elseif old ~= false or may_have_expired then
        for status in string.gmatch(STATUSES, '%S+') do redis.call('ZREM', INDEX .. status, id) end
    end
end

-- Returns the later one of two attempts, if this attempt is later than the verdict; otherwise an empty
-- string. An attempt is written as `time of the scan|packed report`.
local function latest(verdict, one, two)
    local function at(attempt) return tonumber(string.match(attempt, '^%-?%d+') or '') or -math.huge end
    local later = at(one) > at(two) and one or two
    return at(later) > verdict.scanned and later or ''
end
local function as_attempt(failed) return string.format('%.0f', failed.scanned) .. '|' .. failed.body end
local function with(attempt) return attempt ~= '' and '\n' .. attempt or '' end

local old = stored(KEYS[1])
local new = parse(ARGV[3] .. '\n' .. ARGV[4])
if old and old.body and idle(new, old) then
    local attempt = latest(old, as_attempt(new), old.attempt)
    redis.call('SET', KEYS[1], old.header .. '\n' .. old.body .. with(attempt), 'KEEPTTL')
    return 2
end
if not newer(new, old) then
    return 0
end
local attempt = ''
local hash, field = row_of(ARGV[1])
local old_row = old and redis.call('HGET', hash, field)
local later = reasons_in(ARGV[14])
if old and old.body then
    remember(ARGV[1], old, new, reasons_in(old_row), later, ARGV[7])
    attempt = latest(new, idle(old, new) and as_attempt(old) or '', old.attempt)
end
store(KEYS[1], ARGV[3] .. '\n' .. ARGV[4] .. with(attempt))
local is_new_key = redis.call('ZADD', KEYS[4], 0, ARGV[9]) == 1
-- If a record is missing, it may have expired. This is possible if records expire now. It is also possible if
-- the index of the bucket's keys already contains the key, because the setting for the expiry may have
-- changed since then.
local may_have_expired = ARGV[7] ~= '0' or not is_new_key
if not old or old.status ~= new.status then unindex(ARGV[1], old, may_have_expired) end
redis.call('ZADD', INDEX .. new.status, ARGV[6], ARGV[1])
redis.call('HSET', hash, field, ARGV[14])
if KEYS[2] ~= KEYS[1] then
    local bare = stored(KEYS[2])
    if newer(new, bare) then
        local target = bare and bare.body and string.match(bare.body, '^@(%x+)')
        if bare and bare.body then
            local row = old_row
            if target ~= ARGV[1] then row = redis.call('HGET', row_of(target or ARGV[2])) end
            remember(ARGV[2], bare, new, reasons_in(row), later, ARGV[7])
        end
        store(KEYS[2], ARGV[3] .. '\n@' .. ARGV[1])
        unindex(ARGV[2], bare, may_have_expired)
        if not target and (bare ~= false or may_have_expired) then redis.call('HDEL', row_of(ARGV[2])) end
    end
end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[8], '*', 'job', ARGV[5], 'report', ARGV[11])
owe(5, ARGV[12], ARGV[13])
return 1
"""


#: The key of a status index is INDEX, followed by the status.
WRITE_SCRIPT: Final = (
    f"local INDEX, STATUSES = '{keys.STATUS_INDEX_PREFIX}', '{' '.join(Status)}'\n"
    f"{OWE}\n{LUA}\n{REMEMBER}\n{_WRITE}"
)


class CorruptRecordError(KeyholeError):
    """A record cannot be parsed.

    Either a later version of Keyhole wrote the record, or Keyhole did not write it.
    """


class Record(NamedTuple):
    """A stored record: its status, its body, its failed attempt, and its fingerprint.

    The body and the attempt are reports, packed or as JSON. The body can also be a pointer. If the record has
    no fingerprint, the field is empty.
    """

    status: str
    body: bytes
    attempt: bytes = b""
    fingerprint: bytes = b""

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Parse the value of a record in Redis.

        Raises:
            CorruptRecordError: The first line is not a header line.
        """
        line, _, rest = value.partition(b"\n")
        body, _, attempt = rest.partition(b"\n")
        fields = line.split(b"|")
        if len(fields) != len(_HEADER_FIELDS):
            raise CorruptRecordError(f"the first line does not have the fields {'|'.join(_HEADER_FIELDS)}")
        status = fields[_STATUS].decode("ascii", "replace")
        mark, body = _divided(body)
        return cls(status, body, _divided(attempt.partition(b"|")[2])[1] if attempt else b"", mark)

    @property
    def points_to(self) -> str | None:
        """Return the object id to which this record points; `None` if this is not a pointer."""
        return self.body[1:].decode("ascii", "replace") if self.body.startswith(b"@") else None

    def report(self) -> Report:
        """Return the report. If a later scan failed, the report's `last_attempt` describes it.

        Raises:
            CorruptRecordError: The body or the attempt is not a report.
        """
        try:
            report = Report.model_validate_json(unpack(self.body), extra="ignore")
            if not self.attempt:
                return report
            attempt = LastAttempt.of(Report.model_validate_json(unpack(self.attempt), extra="ignore"))
            return report.model_copy(update={"last_attempt": attempt})
        except UnpackError as error:
            raise CorruptRecordError(str(error)) from error
        except ValidationError as error:
            raise CorruptRecordError(versions.why_unreadable(error)) from error


def body_of(report: Report, as_json: bytes) -> bytes:
    """Return the body of a report's record. `as_json` is the report as JSON.

    A record has a fingerprint only if an audit could find the verdict valid by comparing the ETag, the size
    and the modification time alone.
    """
    body = pack(as_json)
    if (
        report.status is Status.FAILED
        or Reason.ARCHIVED in report.reasons
        or report.etag is None
        or report.size is None
        or report.last_modified is None
    ):
        return body
    mark = fingerprint(
        report.status,
        body,
        ruleset=report.ruleset,
        etag=report.etag,
        size=report.size,
        last_modified=report.last_modified,
    )
    return _MARKED + mark + body


def _divided(body: bytes) -> tuple[bytes, bytes]:
    """Return the fingerprint of a body, which can be empty, and the report or pointer in the body."""
    if not body.startswith(_MARKED):
        return b"", body
    return body[1 : 1 + FINGERPRINT_LENGTH], body[1 + FINGERPRINT_LENGTH :]


def header(report: Report, *, job_id: str, sequencer: str | None) -> str:
    """Return the header line of a report's record.

    The field for the sequencer is empty if the sequencer is missing or not hexadecimal.
    """
    modified_ms = "" if report.last_modified is None else epoch_ms(report.last_modified)
    order = (sequencer or "").lower()
    order = (order.lstrip("0") or "0") if _HEX.fullmatch(order) else ""
    etag = quote((report.etag or "").strip('"'), safe="")
    fields = (modified_ms, order, epoch_ms(report.scanned_at), report.status, etag, quote(job_id, safe=":/"))
    return "|".join(map(str, fields))


def is_fixed(report: Report) -> bool:
    """Return whether the report has a version id that always identifies the same object.

    The version id `null` can identify several objects in turn, because S3 can replace the object of this
    version. If the object is missing, the result is false, too, because the version no longer exists.
    """
    return report.version_id not in {None, "null"} and MISSING.isdisjoint(report.reasons)


def epoch_ms(moment: datetime) -> int:
    """Return a time as milliseconds since 1970 (UTC)."""
    return round(moment.timestamp() * 1000)
