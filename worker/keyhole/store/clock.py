"""The ledger's clock, from which Lua scripts read the time.

The clock follows the clock of the Redis server, but never goes back and never jumps forward, even if someone
sets the server's clock, or the server is frozen for a while.
"""

from typing import Final

#: The largest step of the ledger's clock, in seconds. Sweeps and heartbeats read the clock at shorter
#: intervals. So if the server's clock has advanced by more than this time since the last reading, the server
#: was frozen, its clock was set, or no worker ran. The ledger's clock leaves out the excess time. Otherwise
#: every entry would look idle, although no worker had a chance to be active during the excess time.
MAX_STEP_SECONDS: Final = 10

NOW: Final = f"""
-- Reads the ledger's clock, in epoch seconds. `clock` is the key of a hash with the values of the last
-- reading: `server` (the server's clock) and `ledger` (the ledger's clock).
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
