"""Lua scripts that make each step of the ledger atomic. `store.keys` documents the keys.

Scripts read the time from the ledger's clock (`keyhole.store.clock`). So if someone sets the server's clock,
or the server is frozen for a while, the sweep does not mistake active entries for idle entries, and does not
send them again.
"""

from typing import Final

from keyhole.jobs.ledger_format import LUA
from keyhole.store.clock import NOW

#: The maximum number of keys in one command of a script. Lua can pass about 8,000 arguments to a command.
JOBS_PER_COMMAND: Final = 1000

#: Seconds after which the failure counts of a minute expire.
FAILURES_SECONDS: Final = 1800

RUN: Final = """
-- The id of the server's current run, which changes when the server restarts. A restart can lose writes that
-- were not on disk. The id is empty if the server forbids INFO.
local function run()
    local info = redis.pcall('INFO', 'server')
    return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
end
"""

READ_CLOCK: Final = f"""
-- KEYS[1]  the clock
-- returns the clock's time as text
{NOW}
return text(now(KEYS[1]))
"""

CLAIM_SWEEP: Final = f"""
-- KEYS[1]  the time of the last sweep, by the ledger's clock
-- KEYS[2]  the clock
-- ARGV[1]  the shortest time between two sweeps, in seconds
-- returns 1 if the caller must sweep, 0 if a process claimed a sweep within the last ARGV[1] seconds
{NOW}
local at = now(KEYS[2])
local last = tonumber(redis.call('GET', KEYS[1]) or nil)
if last and at >= last and at - last < tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], text(at))
return 1
"""

RECORD: Final = f"""
-- KEYS[1]  zset: open entries of the queue, scored by last activity
-- KEYS[2]  hash: records of open entries
-- KEYS[3]  the marker that the entry is complete
-- KEYS[4]  the clock
-- ARGV[1]  entry id
-- ARGV[2]  the entry, a JSON object
-- returns 1 if the entry is now open, 0 if the entry is already complete
{NOW}{LUA}
if redis.call('EXISTS', KEYS[3]) == 1 then
    return 0
end
open_entry(KEYS[1], KEYS[2], ARGV[1], ARGV[2], now(KEYS[4]))
return 1
"""

RENEW: Final = f"""
-- KEYS[1]  zset: open entries of the queue, scored by last activity
-- KEYS[2]  zset: leased entries of the queue, scored by the holder's last heartbeat
-- KEYS[3]  the clock
-- ARGV     entry ids
{NOW}
local at = text(now(KEYS[3]))
for _, entry in ipairs(ARGV) do
    redis.call('ZADD', KEYS[1], 'XX', at, entry)
    redis.call('ZADD', KEYS[2], 'XX', at, entry)
end
"""

ACQUIRE: Final = f"""
-- KEYS[1]  zset: open entries of the queue, scored by last activity
-- KEYS[2]  hash: records of open entries
-- KEYS[3]  hash: for each queue, the latest recording time among the entries that workers have begun
-- KEYS[4]  zset: leased entries of the queue, scored by the holder's last heartbeat
-- KEYS[5]  hash: the holder of each entry
-- KEYS[6]  zset: postponed entries, scored by due time
-- KEYS[7]  the clock
-- ARGV[1]  entry id
-- ARGV[2]  the queue
-- ARGV[3]  the new holder
-- ARGV[4]  seconds for which a lease is valid after the last heartbeat
-- ARGV[5]  1: acquire the lease even if another holder has a valid one
-- returns the previous holder, if it did not release its lease (empty: none), and 1 if its lease is still
-- valid and the caller did not get it, else 0
{NOW}{LUA}
local at = now(KEYS[7])
local record = redis.call('HGET', KEYS[2], ARGV[1])
if not record then return {{'', 0}} end
local holder = redis.call('HGET', KEYS[5], ARGV[1]) or ''
local beat = redis.call('ZSCORE', KEYS[4], ARGV[1])
if holder ~= '' and holder ~= ARGV[3] and beat and at - beat < tonumber(ARGV[4]) and ARGV[5] == '0' then
    return {{holder, 1}}
end
local recorded = recorded_at(record)
if recorded then
    local latest = tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or 0)
    if recorded > latest then redis.call('HSET', KEYS[3], ARGV[2], text(recorded)) end
end
redis.call('ZADD', KEYS[1], text(at), ARGV[1])
redis.call('ZADD', KEYS[4], text(at), ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('HSET', KEYS[5], ARGV[1], ARGV[3])
return {{holder, 0}}
"""

RELEASE_LEASE: Final = f"""
-- KEYS[1]  zset: open entries of the queue, scored by last activity
-- KEYS[2]  zset: leased entries of the queue, scored by the holder's last heartbeat
-- KEYS[3]  hash: the holder of each entry
-- KEYS[4]  zset: postponed entries, scored by due time
-- KEYS[5]  the clock
-- ARGV[1]  entry id
-- ARGV[2]  seconds by which the entry is postponed; empty: it is not postponed
-- ARGV[3]  the holder that releases the entry
{NOW}
local at = now(KEYS[5])
if redis.call('HGET', KEYS[3], ARGV[1]) ~= ARGV[3] then return end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[2] == '' then
    redis.call('ZADD', KEYS[1], 'XX', text(at), ARGV[1])
elseif redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
    redis.call('ZADD', KEYS[4], text(at + ARGV[2]), ARGV[1])
end
"""

RECLAIM: Final = """
-- KEYS[1]  zset: leased entries of the queue, scored by the holder's last heartbeat
-- ARGV     entry ids
-- The name of the holder stays recorded, so the next holder learns that a worker was lost.
for _, entry in ipairs(ARGV) do
    redis.call('ZREM', KEYS[1], entry)
end
"""

POP_DUE: Final = f"""
-- KEYS[1]  zset: postponed entries, scored by due time
-- KEYS[2]  hash: records of open entries
-- KEYS[3]  the clock
-- ARGV[1]  the largest number of entries to return
-- ARGV[2]  the prefix of the keys of open entries; the queue's name follows it
-- ARGV[3]  the latest version of entries that the caller can read
-- ARGV[4]  seconds by which the script postpones an entry of a later version again
-- returns the ids of the due entries whose postponement this script has ended
{NOW}{LUA}
local time = now(KEYS[3])
local at = text(time)
local due = {{}}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', at, 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
    local entry = entry_of(redis.call('HGET', KEYS[2], id))
    if entry and type(entry.version) == 'number' and entry.version > tonumber(ARGV[3]) then
        redis.call('ZADD', KEYS[1], text(time + ARGV[4]), id)
    else
        redis.call('ZREM', KEYS[1], id)
        due[#due + 1] = id
        if entry and type(entry.queue) == 'string' then
            redis.call('ZADD', ARGV[2] .. entry.queue, at, id)
        end
    end
end
return due
"""

START: Final = f"""
-- KEYS[1]  hash: the job's attempts
-- ARGV[1]  the worker process that starts an attempt
-- ARGV[2]  seconds until the hash expires
-- returns the worker whose last attempt has no recorded end (empty: none), the number of workers that were
-- lost while they scanned the job, and the id of the server's run
{RUN}
local before = redis.call('HMGET', KEYS[1], 'started', 'lost')
redis.call('HSET', KEYS[1], 'started', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return {{before[1] or '', tonumber(before[2] or 0), run()}}
"""

RELEASE: Final = """
-- KEYS[1]  hash: the job's attempts
-- ARGV[1]  the worker process whose attempt ends without a verdict
if redis.call('HGET', KEYS[1], 'started') == ARGV[1] then
    redis.call('HDEL', KEYS[1], 'started')
end
"""

MARK: Final = f"""
-- KEYS[1]  the marker that the job is done
-- ARGV[1]  seconds until the marker expires
-- ARGV[2]  the id of the server's run when the attempt began
-- returns 1 if the job is now marked, 0 if the server was restarted since the attempt began: the restart may
-- have lost the verdict
{RUN}
if run() ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
return 1
"""

UNDECIDED: Final = f"""
-- KEYS[1]  hash: the job's attempts
-- KEYS[2]  the clock
-- ARGV[1]  the reason code
-- ARGV[2]  the error, one line
-- ARGV[3]  seconds until the hash expires
-- ARGV[4]  the bucket for which a failure is counted; empty: no failure is counted
-- ARGV[5]  the prefix of the keys of failure counts; the minute follows it
-- returns the number of undecided attempts, the number of undecided attempts with this reason, and the
-- seconds since the first undecided attempt (as text)
{NOW}
local at = now(KEYS[2])
redis.call('HDEL', KEYS[1], 'started')
redis.call('HSETNX', KEYS[1], 'since', text(at))
redis.call('HSET', KEYS[1], 'error', ARGV[2], 'last', text(at))
local times = redis.call('HINCRBY', KEYS[1], 'undecided', 1)
local alike = redis.call('HINCRBY', KEYS[1], 'reason:' .. ARGV[1], 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
if ARGV[4] ~= '' then
    local failures = ARGV[5] .. math.floor(at / 60)
    redis.call('HINCRBY', failures, ARGV[1] .. ' ' .. ARGV[4], 1)
    redis.call('EXPIRE', failures, {FAILURES_SECONDS})
end
return {{times, alike, text(at - redis.call('HGET', KEYS[1], 'since'))}}
"""

COUNT_RESEND: Final = f"""
-- KEYS[1]  hash: for each open entry, the number of resends, a space, and how many of its jobs were done at
--          the last resend
-- KEYS[2]  zset: open entries of the queue, scored by last activity
-- KEYS[3]  the clock
-- KEYS[4]  hash: records of open entries
-- ARGV[1]  entry id
-- ARGV[2]  how many of its jobs are done
-- returns the number of resends since the entry last made progress; 0 if the entry is not open
{NOW}
if redis.call('HEXISTS', KEYS[4], ARGV[1]) == 0 then return 0 end
local times, done = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) (%d+)$')
if not times or tonumber(ARGV[2]) > tonumber(done) then times = 0 end
times = times + 1
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %s', times, ARGV[2]))
redis.call('ZADD', KEYS[2], 'XX', text(now(KEYS[3])), ARGV[1])
return times
"""

SPLIT: Final = """
-- KEYS[1]  zset: open entries of the queue, scored by last activity
-- KEYS[2]  zset: leased entries of the queue, scored by the holder's last heartbeat
-- KEYS[3]  hash: the holder of each entry
-- KEYS[4]  set: entries that were split
-- KEYS[5]  hash: records of open entries
-- KEYS[6]  the marker that the entry is complete
-- KEYS[7]  hash: how often open entries were sent again
-- ARGV[1]  entry id
-- ARGV[2]  seconds until the marker expires; empty: the entry is not a part of another entry
-- An entry that is not a part stays recorded, but from now on only its parts are sent. A part that is split
-- again becomes complete: its own parts belong to the original entry.
if ARGV[2] == '' then
    redis.call('SADD', KEYS[4], ARGV[1])
else
    redis.call('SET', KEYS[6], '1', 'EX', ARGV[2])
    redis.call('HDEL', KEYS[5], ARGV[1])
end
redis.call('HDEL', KEYS[7], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
"""

COMPLETE: Final = f"""
-- KEYS[1]  zset: open entries of the queue, scored by last activity
-- KEYS[2]  hash: records of open entries
-- KEYS[3]  the marker that the entry is complete
-- KEYS[4]  hash: how often open entries were sent again
-- KEYS[5]  zset: leased entries of the queue, scored by the holder's last heartbeat
-- KEYS[6]  hash: the holder of each entry
-- KEYS[7]  zset: postponed entries, scored by due time
-- KEYS[8]  set: entries that were split
-- KEYS[9]  the marker that the original entry is complete; the same as KEYS[3] if this entry is not a part
-- ARGV[1]  entry id
-- ARGV[2]  seconds until the marker expires
-- ARGV[3]  the prefix of the keys of job markers; the job's id follows it
-- ARGV[4]  the prefix of the keys of job attempts; the job's id follows it
-- ARGV[5]  1: complete the entry only if all of its jobs are marked, or the original entry is complete
-- returns 1 if the entry is now complete, else 0
{LUA}
local entry = entry_of(redis.call('HGET', KEYS[2], ARGV[1]))
-- The keys of the entry's jobs with this prefix, in lists that are short enough for one command.
local function keys_of_jobs(prefix)
    local lists = {{}}
    for i, job in ipairs(entry and entry.jobs or {{}}) do
        if i % {JOBS_PER_COMMAND} == 1 then lists[#lists + 1] = {{}} end
        local list = lists[#lists]
        list[#list + 1] = prefix .. job.id
    end
    return lists
end
if ARGV[5] == '1' and redis.call('EXISTS', KEYS[9]) == 0 then
    for _, markers in ipairs(keys_of_jobs(ARGV[3])) do
        -- EXISTS counts a key as often as it is named, so an entry can contain a job twice.
        if redis.call('EXISTS', unpack(markers)) < #markers then return 0 end
    end
end
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
-- The job markers of a part are removed later, when the original entry is completed.
if entry and not entry.part_of then
    for _, prefix in ipairs({{ARGV[3], ARGV[4]}}) do
        for _, list in ipairs(keys_of_jobs(prefix)) do redis.call('DEL', unpack(list)) end
    end
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[6], ARGV[1])
redis.call('ZREM', KEYS[7], ARGV[1])
redis.call('SREM', KEYS[8], ARGV[1])
return 1
"""
