"""Lua scripts that make each step of an audit atomic. `store.keys` documents the keys."""

from typing import Final

from keyhole.intake.audits.owners import PACK_OWNERS
from keyhole.jobs.ledger_format import LUA
from keyhole.store.clock import NOW

#: The results of an unfinished batch expire after this many seconds. If a worker is killed, its batch is
#: delivered again much earlier than this. So the results that the killed worker recorded are then still in
#: Redis.
RESULT_SECONDS: Final = 7 * 86_400

#: Lua functions that several scripts use to read the server's time and to end audits.
_COMMON: Final = """
local function now()
    local time = redis.call('TIME')
    return time[1] + time[2] / 1e6
end

-- Sets the expiry of all KEYS of an ended audit; 0 seconds: the keys never expire.
local function expire(seconds)
    if tonumber(seconds) > 0 then
        for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, seconds) end
    end
end

-- Ends the audit KEYS[1] with this state and reason.
local function finish_as(state, reason, seconds)
    redis.call('HSET', KEYS[1], 'state', state, 'reason', reason, 'ended', string.format('%.6f', now()))
    expire(seconds)
end
"""

#: A Lua function that creates an audit. The function returns 1, or 0 if an audit with this id already exists.
CREATE_AUDIT: Final = """
-- `audit`: hash of the audit; `audits`: zset of all audits
local function create_audit(audit, audits, id, spec, ruleset, scanner)
    if redis.call('HSETNX', audit, 'spec', spec) == 0 then
        -- Write the same value again: WAITAOF waits only for writes of its own connection, and another
        -- connection may have created the audit just before.
        redis.call('HSET', audit, 'spec', redis.call('HGET', audit, 'spec'))
        return 0
    end
    local time = redis.call('TIME')
    local started = string.format('%.6f', time[1] + time[2] / 1e6)
    redis.call('HSET', audit, 'state', 'running', 'started', started, 'page', 0)
    redis.call('HSET', audit, 'ruleset', ruleset, 'scanner', scanner)
    redis.call('ZADD', audits, started, id)
    return 1
end
"""

CREATE: Final = f"""
-- KEYS[1]  hash: the audit
-- KEYS[2]  zset: all audits
-- ARGV     the audit's id, its specification, ruleset and scanner
-- returns 1 if the audit was created, 0 if an audit with this id exists already
{CREATE_AUDIT}
return create_audit(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
"""

CLAIM: Final = """
-- KEYS[1]  hash: the audit
-- KEYS[2]  hash: the audit's outstanding batches
-- KEYS[3]  list: the ids of the outstanding batches that are not sent yet
-- KEYS[4]  string: the token of the process that lists the next page
-- ARGV[1]  the caller's token
-- ARGV[2]  seconds until the claim expires
-- returns the page's number, or nil if the caller must not list a page now
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return false end
if redis.call('HGET', KEYS[1], 'listed_all') == '1' then return false end
local most = cjson.decode(redis.call('HGET', KEYS[1], 'spec')).outstanding
if redis.call('HLEN', KEYS[2]) >= most or redis.call('EXISTS', KEYS[3]) == 1 then return false end
if not redis.call('SET', KEYS[4], ARGV[1], 'NX', 'EX', ARGV[2]) then return false end
return tonumber(redis.call('HGET', KEYS[1], 'page'))
"""

HOLD: Final = """
-- KEYS[1]  hash: the audit
-- KEYS[2]  string: the token of the process that lists the next page
-- ARGV[1]  the caller's token
-- ARGV[2]  seconds until the claim expires
-- ARGV[3]  the number of the page that was claimed
-- returns the number of the next page if the caller has the claim to it now; nil if another process has the
-- claim, or if the claimed page is committed and the claim was released
local page = redis.call('HGET', KEYS[1], 'page')
local holder = redis.call('GET', KEYS[2])
if not page or holder ~= ARGV[1] and (holder or page ~= ARGV[3]) then return false end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return tonumber(page)
"""

COMMIT: Final = (
    _COMMON
    + """
-- KEYS[1]  hash: the audit
-- KEYS[2]  hash: the audit's totals
-- KEYS[3]  hash: the audit's outstanding batches
-- KEYS[4]  list: the audit's rows
-- KEYS[5]  list: the audit's findings
-- KEYS[6]  list: the ids of the outstanding batches that are not sent yet
-- KEYS[7]  list: the owners of the rows
-- ARGV[1]  the page's number
-- ARGV[2]  the cursor of the next page
-- ARGV[3]  the last key of this page; may be empty
-- ARGV[4]  the state in which the audit ends if this was the last page; empty if it was not
-- ARGV[5]  the reason why the audit ends
-- ARGV[6]  seconds after which an ended audit expires; 0: never
-- ARGV[7]  rows
-- ARGV[8]  the owners of these rows; empty if the audit has no owner tag
-- ARGV[9]  N, then N strings: pairs of a counter and the number to add to it;
--          M, then M strings: pairs of a batch's id and its content;
--          all remaining strings are findings
-- returns 1 if the page is committed, 0 if it was committed before or the audit has ended
if redis.call('HGET', KEYS[1], 'page') ~= ARGV[1] then return 0 end
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'running' and state ~= 'paused' then return 0 end

local at = 10
for i = at, at + ARGV[9] - 1, 2 do redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1]) end
at = at + ARGV[9]
local batches = tonumber(ARGV[at])
for i = at + 1, at + batches, 2 do
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    redis.call('RPUSH', KEYS[6], ARGV[i])
end
at = at + 1 + batches
for i = at, #ARGV do redis.call('RPUSH', KEYS[5], ARGV[i]) end
if ARGV[7] ~= '' then redis.call('RPUSH', KEYS[4], ARGV[7]) end
if ARGV[8] ~= '' then redis.call('RPUSH', KEYS[7], ARGV[8]) end
redis.call('HINCRBY', KEYS[2], 'pages', 1)
redis.call('HSET', KEYS[1], 'page', ARGV[1] + 1, 'cursor', ARGV[2], 'reason', '', 'starts', 0)
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'after', ARGV[3]) end
if ARGV[4] ~= '' then
    redis.call('HSET', KEYS[1], 'listed_all', 1, 'ends_as', ARGV[4], 'ends_for', ARGV[5])
    if redis.call('HLEN', KEYS[3]) == 0 then finish_as(ARGV[4], ARGV[5], ARGV[6]) end
end
return 1
"""
)

TAKE: Final = f"""
-- KEYS[1]  hash: the audit
-- KEYS[2]  hash: the audit's outstanding batches
-- KEYS[3]  list: the ids of the outstanding batches that are not sent yet
-- KEYS[4]  zset: the ledger's open entries of the queue, scored by last activity
-- KEYS[5]  hash: the ledger's records
-- KEYS[6]  the ledger's clock
-- returns the batches that the caller must send; this script has recorded them in the ledger
{NOW}{LUA}
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return {{}} end
local most = cjson.decode(redis.call('HGET', KEYS[1], 'spec')).outstanding
local room = most - redis.call('HLEN', KEYS[2]) + redis.call('LLEN', KEYS[3])
if room <= 0 then return {{}} end
local ids = redis.call('LRANGE', KEYS[3], 0, room - 1)
redis.call('LTRIM', KEYS[3], room, -1)
local at = now(KEYS[6])
local taken = {{}}
for _, id in ipairs(ids) do
    local batch = redis.call('HGET', KEYS[2], id)
    if batch then
        taken[#taken + 1] = batch
        open_entry(KEYS[4], KEYS[5], id, batch, at)
    end
end
return taken
"""

RELEASE: Final = """
-- KEYS[1]  string: the token of the process that lists the next page
-- ARGV[1]  the caller's token
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""

RECORD_RESULT: Final = """
-- KEYS[1]  hash: the audit's outstanding batches
-- KEYS[2]  hash: the results of the batch
-- ARGV[1]  the batch's id
-- ARGV[2]  the job's id
-- ARGV[3]  the job's result
-- ARGV[4]  seconds until the results of an unfinished batch expire
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then
    redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3])
    redis.call('EXPIRE', KEYS[2], ARGV[4])
end
"""

FINISH: Final = (
    _COMMON
    + PACK_OWNERS
    + """
-- KEYS[1]  hash: the audit
-- KEYS[2]  hash: the audit's totals
-- KEYS[3]  hash: the audit's outstanding batches
-- KEYS[4]  list: the audit's rows
-- KEYS[5]  list: the audit's findings
-- KEYS[6]  hash: the results of the batch
-- KEYS[7]  list: the owners of the rows
-- ARGV[1]  the batch's id
-- ARGV[2]  seconds after which an ended audit expires; 0: never
-- returns 1 if the batch was outstanding, else 0
if redis.call('HDEL', KEYS[3], ARGV[1]) == 0 then return 0 end
local sums = {}
local function add(name, count) sums[name] = (sums[name] or 0) + count end
local rows, owners = {}, {}
for _, result in ipairs(redis.call('HVALS', KEYS[6])) do
    local counts, owner = string.match(string.sub(result, 19), '^(%a+ %d+ %d+ %d+) ?(.*)$')
    local status, requests, bytes, nanodollars = string.match(counts, '^(%a+) (%d+) (%d+) (%d+)$')
    rows[#rows + 1] = string.sub(result, 1, 18)
    owners[#owners + 1] = owner
    if string.sub(owner, 1, 1) == '!' then add('owners_unknown', 1) end
    add('scanned', 1)
    add('status:' .. status, 1)
    add('requests', requests)
    add('bytes_read', bytes)
    add('nanodollars', nanodollars)
end
for name, count in pairs(sums) do redis.call('HINCRBY', KEYS[2], name, string.format('%.0f', count)) end
if #rows > 0 then
    redis.call('RPUSH', KEYS[4], table.concat(rows))
    local spec = redis.call('HGET', KEYS[1], 'spec')
    if spec and cjson.decode(spec).owner_tag then redis.call('RPUSH', KEYS[7], pack_owners(owners)) end
end
redis.call('DEL', KEYS[6])
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'running' and state ~= 'paused' then
    expire(ARGV[2])
elseif redis.call('HLEN', KEYS[3]) == 0 and redis.call('HGET', KEYS[1], 'listed_all') == '1' then
    finish_as(redis.call('HGET', KEYS[1], 'ends_as'), redis.call('HGET', KEYS[1], 'ends_for'), ARGV[2])
end
return 1
"""
)

SET_STATE: Final = (
    _COMMON
    + """
-- KEYS[1]  hash: the audit
-- KEYS[2]  hash: the audit's totals
-- KEYS[3]  hash: the audit's outstanding batches
-- KEYS[4]  list: the audit's rows
-- KEYS[5]  list: the audit's findings
-- KEYS[6]  list: the ids of the outstanding batches that are not sent yet
-- KEYS[7]  string: the token of the process that lists the next page
-- KEYS[8]  list: the owners of the rows
-- ARGV[1]  the new state
-- ARGV[2]  the reason
-- ARGV[3]  seconds after which an ended audit expires; 0: never
-- returns 1 if the state was changed, 0 if the current state does not allow the change
local state = redis.call('HGET', KEYS[1], 'state')
local from = {
    paused = {running = true},
    running = {paused = true, failed = true},
    cancelled = {running = true, paused = true, failed = true},
    failed = {running = true},
}
if not state or not from[ARGV[1]][state] then return 0 end
if ARGV[1] == 'cancelled' or ARGV[1] == 'failed' then
    finish_as(ARGV[1], ARGV[2], ARGV[3])
else
    redis.call('HSET', KEYS[1], 'state', ARGV[1], 'reason', ARGV[2], 'starts', 0)
    if state == 'failed' then
        redis.call('HDEL', KEYS[1], 'ended')
        for _, key in ipairs(KEYS) do redis.call('PERSIST', key) end
    end
end
return 1
"""
)
