"""The scripts by which the ledger takes each of its steps at once. `results.keys` says what the keys hold."""

from typing import Final

NOTE: Final = """
-- KEYS[1]  zset: open entries of the queue by their last sign of life
-- KEYS[2]  hash: open entries
-- KEYS[3]  the entry's marker that it is done
-- ARGV[1]  entry id
-- ARGV[2]  the entry, a JSON object
-- returns 1 if the entry is open now, 0 if it is done
if redis.call('EXISTS', KEYS[3]) == 1 then
    return 0
end
local time = redis.call('TIME')
local now = string.format('%.6f', time[1] + time[2] / 1e6)
if redis.call('HSETNX', KEYS[2], ARGV[1], now .. ' ' .. ARGV[2]) == 1 then
    redis.call('ZADD', KEYS[1], 'NX', now, ARGV[1])
end
return 1
"""

RENEW: Final = """
-- KEYS[1]  zset: open entries of the queue by their last sign of life
-- ARGV     entry ids
local time = redis.call('TIME')
for _, entry in ipairs(ARGV) do
    redis.call('ZADD', KEYS[1], 'XX', string.format('%.6f', time[1] + time[2] / 1e6), entry)
end
"""

BEGIN: Final = """
-- KEYS[1]  zset: open entries of the queue by their last sign of life
-- KEYS[2]  hash: open entries
-- KEYS[3]  hash: of each queue, when the latest entry was noted whose work has begun
-- ARGV[1]  entry id
-- ARGV[2]  the queue
local entry = redis.call('HGET', KEYS[2], ARGV[1])
local noted = entry and tonumber(string.match(entry, '^[%d.]+'))
if noted then
    local latest = tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or 0)
    if noted > latest then redis.call('HSET', KEYS[3], ARGV[2], string.format('%.6f', noted)) end
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'XX', string.format('%.6f', time[1] + time[2] / 1e6), ARGV[1])
"""

ATTEMPT: Final = """
-- KEYS[1]  the job's count of starts
-- KEYS[2]  zset: open entries of the queue by their last sign of life
-- ARGV[1]  entry id
-- ARGV[2]  seconds that the count stays
-- returns how often the job was started
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], 'XX', string.format('%.6f', time[1] + time[2] / 1e6), ARGV[1])
local starts = redis.call('INCR', KEYS[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return starts
"""

STRIKE: Final = """
-- KEYS[1]  zset: open entries of the queue by their last sign of life
-- KEYS[2]  hash: open entries
-- KEYS[3]  the entry's marker that it is done
-- KEYS[4]  hash: how often open entries were sent again
-- ARGV[1]  entry id
-- ARGV[2]  seconds that the marker stays
-- ARGV[3]  what stands before a job's id in the key of its marker
-- ARGV[4]  what stands before a job's id in the key of its count of starts
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
local json = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '{.*')
local readable, entry = pcall(cjson.decode, json or '{}')
if readable and type(entry) == 'table' then
    for _, job in ipairs(entry.jobs or {}) do
        redis.call('DEL', ARGV[3] .. job.id, ARGV[4] .. job.id)
    end
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
"""
