"""Lua scripts for debts: tags or events that Keyhole still has to write or send (`jobs.debts`).

Each script makes one step atomic, such as recording a debt or paying it. `store.keys` documents the keys. The
scripts use the ledger's clock (`store.clock`). A *writer* is a thread that pays a debt: it writes tags, or
sends an event.
"""

from typing import Final

from keyhole.store.clock import NOW

HOLD: Final = f"""
-- KEYS[1]  hash: the debt
-- KEYS[2]  zset: debts that a writer holds, scored by the time at which the writer is considered lost
-- KEYS[3]  zset: debts that are owed, scored by due time
-- KEYS[4]  zset: debts that are paid, but must be checked once more, scored by the time of this check
-- KEYS[5]  the clock
-- ARGV[1]  the debt's id
-- ARGV[2]  the writer's token
-- ARGV[3]  seconds without a heartbeat until the writer is considered lost
-- ARGV[4]  the debt (JSON), which replaces the recorded debt; empty: hold the recorded debt
-- ARGV[5]  seconds within which the last write of a lost writer takes effect, or never
-- returns the debt, the token of the process that recorded it, the number of failed attempts, and the seconds
-- since the first failure (text); 0 if another writer holds the debt; nil if there is no such debt
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
-- The previous writer was lost. Its last write may still take effect, so the result of this write is checked
-- once more later.
if before[2] then redis.call('HSET', KEYS[1], 'late_until', text(at + ARGV[5])) end
redis.call('HSET', KEYS[1], 'holder', ARGV[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[2], text(at + ARGV[3]), ARGV[1])
local debt = redis.call('HMGET', KEYS[1], 'debt', 'noted', 'times', 'since')
return {{debt[1], debt[2], tonumber(debt[3] or 0), text(at - (debt[4] or at))}}
"""

RENEW: Final = f"""
-- KEYS     as for HOLD
-- ARGV[1]  the debt's id
-- ARGV[2]  the writer's token
-- ARGV[3]  seconds without a heartbeat until the writer is considered lost
{NOW}
local at = now(KEYS[5])
if redis.call('HGET', KEYS[1], 'holder') == ARGV[2] then
    redis.call('ZADD', KEYS[2], 'XX', text(at + ARGV[3]), ARGV[1])
end
"""

RECORD: Final = f"""
-- KEYS     as for HOLD
-- ARGV[1]  the debt's id
-- ARGV[2]  token of the process that records the debt
-- ARGV[3]  the debt (JSON), which replaces the recorded debt
-- The new debt is due at once. A writer that holds the older debt continues. When this writer settles or
-- postpones the older debt, the script finds the new debt, and the new debt stays owed.
{NOW}
local before = redis.call('HMGET', KEYS[1], 'late_until', 'holder')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'debt', ARGV[3], 'noted', ARGV[2])
if before[1] then redis.call('HSET', KEYS[1], 'late_until', before[1]) end
if before[2] then redis.call('HSET', KEYS[1], 'holder', before[2]) end
redis.call('ZADD', KEYS[3], text(now(KEYS[5])), ARGV[1])
"""

#: The first part of the scripts SETTLE, POSTPONE, PUT_BACK and GIVE_UP, with which a writer stops working on
#: a debt. If a writer is too slow, it is considered lost, and a second writer takes the debt over. The slow
#: writer can then overwrite the tags that the second writer has already verified. So if a slow writer calls
#: one of these scripts, and the debt is no longer assigned to this writer, the script records the debt as
#: owed again. The tags are then written once more.
_RELEASE: Final = f"""
-- KEYS     as for HOLD
-- ARGV[1]  the debt's id
-- ARGV[2]  the writer's token
-- ARGV[3]  token of the process that recorded the debt
-- ARGV[4]  the debt (JSON)
-- ARGV[5]  1 if S3 did not respond to a write, so that the write may take effect later
-- ARGV[6]  seconds within which such a write takes effect, or never
{NOW}
local at = now(KEYS[5])
local is_lost = redis.call('HGET', KEYS[1], 'holder') ~= ARGV[2]
if ARGV[5] == '1' then redis.call('HSET', KEYS[1], 'late_until', text(at + ARGV[6])) end
if is_lost then
    redis.call('HSETNX', KEYS[1], 'debt', ARGV[4])
    redis.call('HSET', KEYS[1], 'noted', ARGV[2])
    redis.call('ZADD', KEYS[3], text(at), ARGV[1])
    return
end
redis.call('HDEL', KEYS[1], 'holder')
redis.call('ZREM', KEYS[2], ARGV[1])
-- If another process has recorded a newer debt in the meantime, the newer debt is already owed.
if redis.call('HGET', KEYS[1], 'noted') ~= ARGV[3] then return end
"""

SETTLE: Final = f"""
{_RELEASE}
-- If an unanswered write may still take effect, its result is checked once more later.
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
-- ARGV[7]  seconds until the debt is due
-- ARGV[8]  the reason code
-- ARGV[9]  the error, one line
redis.call('ZADD', KEYS[3], text(at + ARGV[7]), ARGV[1])
redis.call('HSETNX', KEYS[1], 'since', text(at))
redis.call('HSET', KEYS[1], 'last', text(at), 'error', ARGV[9])
redis.call('HINCRBY', KEYS[1], 'times', 1)
redis.call('HINCRBY', KEYS[1], 'reason:' .. ARGV[8], 1)
"""

PUT_BACK: Final = f"""
{_RELEASE}
-- ARGV[7]  seconds until the debt is due
redis.call('ZADD', KEYS[3], text(at + ARGV[7]), ARGV[1])
"""

GIVE_UP: Final = f"""
{_RELEASE}
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
"""

TAKE_DUE: Final = f"""
-- KEYS[1]  zset: debts that a writer holds, scored by the time at which the writer is considered lost
-- KEYS[2]  zset: debts that are owed, scored by due time
-- KEYS[3]  zset: debts that are paid, but must be checked once more, scored by the time of this check
-- KEYS[4]  the clock
-- ARGV[1]  the largest number of ids to return
-- ARGV[2]  seconds after which a returned debt is due again if no writer holds it by then
-- returns the ids of the due debts, including the debts of lost writers
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
-- returns the number of due debts
{NOW}
local at = text(now(KEYS[4]))
local count = 0
for i = 1, 3 do count = count + redis.call('ZCOUNT', KEYS[i], '-inf', at) end
return count
"""
