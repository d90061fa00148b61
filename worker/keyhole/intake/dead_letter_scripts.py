"""Lua scripts that make each change of a dead letter atomic. `store.keys` documents the keys."""

from typing import Final

ADD: Final = """
-- KEYS[1]  zset: ids of dead letters, scored by the time of the last failure
-- KEYS[2]  the letter
-- KEYS[3]  the count of receives, which this script deletes
-- ARGV[1]  letter id
-- ARGV[2]  the number of failures to add
-- ARGV[3]  1: do nothing if the letter does not exist
-- ARGV[4…] fields of the letter, each followed by its value
if ARGV[3] == '1' and redis.call('EXISTS', KEYS[2]) == 0 then
    return
end
local time = redis.call('TIME')
local now = string.format('%.6f', time[1] + time[2] / 1e6)
redis.call('HSETNX', KEYS[2], 'first', now)
redis.call('HSET', KEYS[2], 'last', now, unpack(ARGV, 4))
redis.call('HINCRBY', KEYS[2], 'times', ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('DEL', KEYS[3])
"""

DROP_UNCHANGED: Final = """
-- KEYS[1]  zset: ids of dead letters, scored by the time of the last failure
-- KEYS[2]  the letter
-- ARGV[1]  letter id
-- ARGV[2]  the letter's number of failures when the caller read it
-- returns 1 if the letter was dropped; 0 if its number of failures has changed, so that it was not dropped
if redis.call('HGET', KEYS[2], 'times') ~= ARGV[2] then
    return 0
end
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('DEL', KEYS[2])
"""
