"""The Lua scripts by which the ledger takes each step atomically. `store.keys` says what the keys hold.

Every script that needs the time takes it from the ledger's clock (`NOW`). That clock follows the server's
clock but never goes back and never jumps forward. So no entry looks idle because the server's clock was set
or the server was frozen.
"""

from typing import Final

from keyhole.jobs.ledger_format import LUA

#: The clock's largest step. Workers sweep and send heartbeats more often than this. A longer gap means that
#: the server was frozen, its clock was set, or no worker ran; entries did not become idle in that time.
MAX_STEP_SECONDS: Final = 10

#: Seconds for which the failures of a minute are kept.
FAILURES_SECONDS: Final = 1800

NOW: Final = f"""
-- The ledger's clock in epoch seconds: `clock` is a hash of `server` (the server's clock at the last reading)
-- and `ledger` (this clock at that moment).
local function now(clock)
    local time = redis.call('TIME')
    local server = time[1] + time[2] / 1e6
    local last = redis.call('HMGET', clock, 'server', 'ledger')
    local step = math.min(math.max(server - (last[1] or server), 0), {MAX_STEP_SECONDS})
    local ledger = (last[2] or server) + step
    redis.call('HSET', clock, 'server', string.format('%.6f', server),
               'ledger', string.format('%.6f', ledger))
    return ledger
end
local function text(seconds) return string.format('%.6f', seconds) end
"""

RUN: Final = """
-- The id of this run of the server. After a restart, writes of this run that were not on disk may be lost.
-- Empty if INFO is forbidden.
local function run()
    local info = redis.pcall('INFO', 'server')
    return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
end
"""

READ_CLOCK: Final = f"""
-- KEYS[1]  the clock
-- returns its time as text
{NOW}
return text(now(KEYS[1]))
"""

CLAIM_SWEEP: Final = f"""
-- KEYS[1]  when the ledger was last swept, by its clock
-- KEYS[2]  the clock
-- ARGV[1]  seconds within which no other process sweeps
-- returns 1 if the caller is to sweep, 0 if another process claimed a sweep a moment ago
{NOW}
local at = now(KEYS[2])
local last = tonumber(redis.call('GET', KEYS[1]) or nil)
if last and at >= last and at - last < tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], text(at))
return 1
"""

RECORD: Final = f"""
-- KEYS[1]  zset: open entries of the queue by their last activity
-- KEYS[2]  hash: records of open entries
-- KEYS[3]  the marker that the entry is complete
-- KEYS[4]  the clock
-- ARGV[1]  entry id
-- ARGV[2]  the entry, a JSON object
-- returns 1 if the entry is open now, 0 if it is complete
{NOW}{LUA}
if redis.call('EXISTS', KEYS[3]) == 1 then
    return 0
end
open_entry(KEYS[1], KEYS[2], ARGV[1], ARGV[2], now(KEYS[4]))
return 1
"""

RENEW: Final = f"""
-- KEYS[1]  zset: open entries of the queue by their last activity
-- KEYS[2]  zset: leased entries of the queue by their holder's last heartbeat
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
-- KEYS[1]  zset: open entries of the queue by their last activity
-- KEYS[2]  hash: records of open entries
-- KEYS[3]  hash: for each queue, when the newest of the entries that workers have begun was recorded
-- KEYS[4]  zset: leased entries of the queue by their holder's last heartbeat
-- KEYS[5]  hash: the holder of an entry
-- KEYS[6]  zset: postponed entries by when they are due
-- KEYS[7]  the clock
-- ARGV[1]  entry id
-- ARGV[2]  the queue
-- ARGV[3]  the new holder
-- ARGV[4]  seconds for which a lease is valid after the last heartbeat
-- ARGV[5]  1 to take a valid lease, too
-- returns the last holder that did not release the lease (empty: none), and 1 if that holder keeps its valid
-- lease, else 0
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
-- KEYS[1]  zset: open entries of the queue by their last activity
-- KEYS[2]  zset: leased entries of the queue by their holder's last heartbeat
-- KEYS[3]  hash: the holder of an entry
-- KEYS[4]  zset: postponed entries by when they are due
-- KEYS[5]  the clock
-- ARGV[1]  entry id
-- ARGV[2]  seconds by which it is postponed; empty: it is not
-- ARGV[3]  the holder that releases it
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
-- KEYS[1]  zset: leased entries of the queue by their holder's last heartbeat
-- ARGV     entry ids
-- The holder stays recorded, so that the next one learns that a worker was lost.
for _, entry in ipairs(ARGV) do
    redis.call('ZREM', KEYS[1], entry)
end
"""

POP_DUE: Final = f"""
-- KEYS[1]  zset: postponed entries by when they are due
-- KEYS[2]  hash: records of open entries
-- KEYS[3]  the clock
-- ARGV[1]  the largest number of entries
-- ARGV[2]  the key of a queue's open entries, without the queue's name at its end
-- returns the ids of the due entries, which are not postponed any longer
{NOW}{LUA}
local at = text(now(KEYS[3]))
local due = redis.call('ZRANGE', KEYS[1], '-inf', at, 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do
    redis.call('ZREM', KEYS[1], id)
    local entry = entry_of(redis.call('HGET', KEYS[2], id))
    if entry and type(entry.queue) == 'string' then
        redis.call('ZADD', ARGV[2] .. entry.queue, at, id)
    end
end
return due
"""

START: Final = f"""
-- KEYS[1]  hash: the job's attempts
-- ARGV[1]  the worker process that starts an attempt
-- ARGV[2]  seconds that the hash is kept
-- returns the worker whose attempt never ended (empty: none), how many workers were lost with the job, and
-- the run of the server
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
-- ARGV[1]  seconds that the marker is kept
-- ARGV[2]  the run of the server in which the attempt began
-- returns 1 if the job is marked, 0 if the server was restarted since, and may have lost the verdict
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
-- ARGV[3]  seconds that the hash is kept
-- ARGV[4]  the bucket whose failures are counted; empty: none
-- ARGV[5]  the key of a minute's failures, without the minute at its end
-- returns the number of undecided attempts, their number for this reason, and the seconds since the first of
-- them (as text)
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
-- KEYS[1]  hash: for each open entry, the number of resends, a space, the number of its jobs done then
-- KEYS[2]  zset: open entries of the queue by their last activity
-- KEYS[3]  the clock
-- KEYS[4]  hash: records of open entries
-- ARGV[1]  entry id
-- ARGV[2]  how many of its jobs are done
-- returns the number of resends since it last made progress; 0 if it is not open
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
-- KEYS[1]  zset: open entries of the queue by their last activity
-- KEYS[2]  zset: leased entries of the queue by their holder's last heartbeat
-- KEYS[3]  hash: the holder of an entry
-- KEYS[4]  set: entries that were split
-- KEYS[5]  hash: records of open entries
-- KEYS[6]  the marker that the entry is complete
-- KEYS[7]  hash: how often open entries were sent again
-- ARGV[1]  entry id
-- ARGV[2]  seconds that the marker is kept; empty: the entry is not a part of another
-- A whole entry stays recorded, but only its parts are sent. A part that is split is complete: the new parts
-- belong to the whole entry.
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
-- KEYS[1]  zset: open entries of the queue by their last activity
-- KEYS[2]  hash: records of open entries
-- KEYS[3]  the marker that the entry is complete
-- KEYS[4]  hash: how often open entries were sent again
-- KEYS[5]  zset: leased entries of the queue by their holder's last heartbeat
-- KEYS[6]  hash: the holder of an entry
-- KEYS[7]  zset: postponed entries by when they are due
-- KEYS[8]  set: entries that were split
-- KEYS[9]  the marker that the whole entry is complete; KEYS[3] if this entry is not a part
-- ARGV[1]  entry id
-- ARGV[2]  seconds that the marker is kept
-- ARGV[3]  the key of a job's marker, without the job's id at its end
-- ARGV[4]  the key of a job's attempts, without the job's id at its end
-- ARGV[5]  1 to complete it only if all of its jobs are marked, or the whole entry is complete
-- returns 1 if it is complete
{LUA}
local entry = entry_of(redis.call('HGET', KEYS[2], ARGV[1]))
if ARGV[5] == '1' and redis.call('EXISTS', KEYS[9]) == 0 and entry then
    for _, job in ipairs(entry.jobs or {{}}) do
        if redis.call('EXISTS', ARGV[3] .. job.id) == 0 then return 0 end
    end
end
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
-- The markers of a part's jobs are removed with the whole entry.
if entry and not entry.part_of then
    for _, job in ipairs(entry.jobs or {{}}) do
        redis.call('DEL', ARGV[3] .. job.id, ARGV[4] .. job.id)
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
