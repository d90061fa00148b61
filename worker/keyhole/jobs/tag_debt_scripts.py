"""The Lua scripts by which tag debts take each step atomically. `store.keys` says what the keys hold.

They use the ledger's clock (`ledger_scripts.NOW`).
"""

from typing import Final

from keyhole.jobs.ledger_scripts import NOW

#: Seconds until a write without an answer has taken effect, or never does.
LATE_SECONDS: Final = 60

HOLD: Final = f"""
-- KEYS[1]  hash: the debt
-- KEYS[2]  zset: debts that a writer holds, by when the writer counts as lost
-- KEYS[3]  zset: debts that are owed, by when they are due
-- KEYS[4]  zset: debts whose tags are correct, by when they are checked once more
-- KEYS[5]  the clock
-- ARGV[1]  object id
-- ARGV[2]  the writer's token
-- ARGV[3]  seconds until the writer counts as lost
-- ARGV[4]  the debt (JSON), which replaces the recorded one; empty: the recorded one
-- returns the debt, the token of the process that recorded it, how often writing failed, for how many seconds
-- (text); 0 if another writer holds it, nil if there is none
{NOW}
local at = now(KEYS[5])
local lost_at = redis.call('ZSCORE', KEYS[2], ARGV[1])
if lost_at and tonumber(lost_at) > at then return 0 end
local before = redis.call('HMGET', KEYS[1], 'late_until', 'holder')
if ARGV[4] ~= '' then
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'debt', ARGV[4], 'noted', ARGV[2])
    if before[1] then redis.call('HSET', KEYS[1], 'late_until', before[1]) end
elseif redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('ZREM', KEYS[3], ARGV[1])
    redis.call('ZREM', KEYS[4], ARGV[1])
    return nil
end
-- The last write of a lost writer may still take effect.
if before[2] then redis.call('HSET', KEYS[1], 'late_until', text(at + {LATE_SECONDS})) end
redis.call('HSET', KEYS[1], 'holder', ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[2], text(at + ARGV[3]), ARGV[1])
local debt = redis.call('HMGET', KEYS[1], 'debt', 'noted', 'times', 'since')
return {{debt[1], debt[2], tonumber(debt[3] or 0), text(at - (debt[4] or at))}}
"""

RENEW: Final = f"""
-- KEYS     as for HOLD
-- ARGV[1]  object id
-- ARGV[2]  the writer's token
-- ARGV[3]  seconds until the writer counts as lost
{NOW}
local at = now(KEYS[5])
if redis.call('HGET', KEYS[1], 'holder') == ARGV[2] then
    redis.call('ZADD', KEYS[2], 'XX', text(at + ARGV[3]), ARGV[1])
end
"""

RECORD: Final = f"""
-- KEYS     as for HOLD
-- ARGV[1]  object id
-- ARGV[2]  token of the process that records it
-- ARGV[3]  the debt (JSON), which replaces the recorded one
-- It is due at once. A writer that holds the older debt goes on, and finds the new one when it is done.
{NOW}
local before = redis.call('HMGET', KEYS[1], 'late_until', 'holder')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'debt', ARGV[3], 'noted', ARGV[2])
if before[1] then redis.call('HSET', KEYS[1], 'late_until', before[1]) end
if before[2] then redis.call('HSET', KEYS[1], 'holder', before[2]) end
redis.call('ZADD', KEYS[3], text(now(KEYS[5])), ARGV[1])
"""

#: How a writer releases a debt. If the writer counted as lost in the meantime, its last write may have undone
#: that of another writer: then the debt is owed, even if the other writer found correct tags.
_RELEASE: Final = f"""
-- KEYS     as for HOLD
-- ARGV[1]  object id
-- ARGV[2]  the writer's token
-- ARGV[3]  token of the process that recorded the debt
-- ARGV[4]  the debt (JSON)
-- ARGV[5]  1 if a write got no answer, so that it may take effect later
{NOW}
local at = now(KEYS[5])
local is_lost = redis.call('HGET', KEYS[1], 'holder') ~= ARGV[2]
if ARGV[5] == '1' then redis.call('HSET', KEYS[1], 'late_until', text(at + {LATE_SECONDS})) end
if is_lost then
    redis.call('HSETNX', KEYS[1], 'debt', ARGV[4])
    redis.call('HSET', KEYS[1], 'noted', ARGV[2])
    redis.call('ZADD', KEYS[3], text(at), ARGV[1])
    return
end
redis.call('HDEL', KEYS[1], 'holder')
redis.call('ZREM', KEYS[2], ARGV[1])
-- Another verdict was recorded in the meantime: its debt is owed already.
if redis.call('HGET', KEYS[1], 'noted') ~= ARGV[3] then return end
"""

SETTLE: Final = f"""
{_RELEASE}
-- If a write may still take effect, correct tags are checked once more.
local late_until = redis.call('HGET', KEYS[1], 'late_until')
if late_until and tonumber(late_until) > at then
    redis.call('HDEL', KEYS[1], 'times', 'since')
    redis.call('ZADD', KEYS[4], late_until, ARGV[1])
else
    redis.call('DEL', KEYS[1])
end
redis.call('ZREM', KEYS[3], ARGV[1])
"""

POSTPONE: Final = f"""
{_RELEASE}
-- ARGV[6]  seconds until it is due
-- ARGV[7]  the reason code
-- ARGV[8]  the error, one line
redis.call('ZADD', KEYS[3], text(at + ARGV[6]), ARGV[1])
redis.call('HSETNX', KEYS[1], 'since', text(at))
redis.call('HSET', KEYS[1], 'last', text(at), 'error', ARGV[8])
redis.call('HINCRBY', KEYS[1], 'times', 1)
redis.call('HINCRBY', KEYS[1], 'reason:' .. ARGV[7], 1)
"""

GIVE_UP: Final = f"""
{_RELEASE}
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
"""

TAKE_DUE: Final = f"""
-- KEYS[1]  zset: debts that a writer holds, by when the writer counts as lost
-- KEYS[2]  zset: debts that are owed, by when they are due
-- KEYS[3]  zset: debts whose tags are correct, by when they are checked once more
-- KEYS[4]  the clock
-- ARGV[1]  how many at most
-- ARGV[2]  seconds after which they are due again if no writer holds them
-- returns the ids of the objects, those of lost writers included
{NOW}
local at = now(KEYS[4])
local due = redis.call('ZRANGE', KEYS[3], '-inf', text(at), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do
    redis.call('ZADD', KEYS[3], text(at + ARGV[2]), id)
end
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', text(at), 'BYSCORE', 'LIMIT', 0, ARGV[1])) do
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZADD', KEYS[2], text(at), id)
end
local owed = redis.call('ZRANGE', KEYS[2], '-inf', text(at), 'BYSCORE', 'LIMIT', 0, ARGV[1] - #due)
for _, id in ipairs(owed) do
    redis.call('ZADD', KEYS[2], text(at + ARGV[2]), id)
    due[#due + 1] = id
end
return due
"""

COUNT_DUE: Final = f"""
-- KEYS     as for TAKE_DUE
-- returns how many debts are due
{NOW}
local at = text(now(KEYS[4]))
local count = 0
for i = 1, 3 do count = count + redis.call('ZCOUNT', KEYS[i], '-inf', at) end
return count
"""
