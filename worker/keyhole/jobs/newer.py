"""Leaves entries of a later version of Keyhole to workers that can read them.

During an upgrade, an older worker can receive an entry of a later version, which it cannot read. It postpones
the entry, for which it needs only the message's id and queue. A due entry of a later version stays postponed
until the sweep of a newer worker sends it (`Ledger.pop_due`). So older workers neither make the entry a dead
letter nor count resends of it.
"""

from typing import Final

import redis

from keyhole.store import keys
from keyhole.store.clock import NOW

#: Seconds after which a worker tries again to send an entry of a later version.
LATER_SECONDS: Final = 10

_LEAVE: Final = f"""
-- KEYS[1]  zset: open entries of the queue, scored by last activity
-- KEYS[2]  hash: records of open entries
-- KEYS[3]  zset: leased entries of the queue, scored by the holder's last heartbeat
-- KEYS[4]  zset: postponed entries, scored by due time
-- KEYS[5]  the marker that the entry is complete
-- KEYS[6]  the clock
-- ARGV[1]  entry id
-- ARGV[2]  seconds by which the entry is postponed
-- returns 1 if the entry is recorded or complete, so that its message can be dropped; 0 if it is unknown
{NOW}
if redis.call('EXISTS', KEYS[5]) == 1 then return 1 end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
-- Do not postpone an entry on which a newer worker works. Entries that were split are not in this set.
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) and redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
    redis.call('ZADD', KEYS[4], string.format('%.6f', now(KEYS[6]) + ARGV[2]), ARGV[1])
end
return 1
"""


class NewerWork:
    """The entries of later versions in Redis. The client comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._leave = client.register_script(_LEAVE)

    def leave(self, entry_id: str, queue: str) -> bool:
        """Postpone an entry that only a later version can read.

        Returns:
            Whether the caller may drop the entry's message. This is so if the ledger contains the entry or
            has completed it.
        """
        return bool(
            self._leave(
                keys=[
                    keys.ledger_open(queue),
                    keys.LEDGER_ENTRIES,
                    keys.ledger_held(queue),
                    keys.LEDGER_LATER,
                    keys.entry_done(entry_id),
                    keys.LEDGER_CLOCK,
                ],
                args=[entry_id, LATER_SECONDS],
            )
        )
