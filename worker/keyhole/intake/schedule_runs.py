"""Stores the last audit of each schedule in Redis.

While the last audit of a schedule is running, the schedule starts no other audit.

For each time at which a schedule is due, there is an id. The audit that starts at this time has this id, too.
If two tasks arrive for the same due time, the second task has no effect. This happens if the broker delivers
a task twice, or if two schedulers are running. One Lua script checks the last audit and creates the new
audit, so two workers cannot both create an audit.
"""

from dataclasses import dataclass
from typing import Final, cast

import redis

from keyhole.intake.audits import scripts
from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.recurrence import LONGEST_SECONDS
from keyhole.store import keys

#: The number of seconds after which the record of a schedule's last audit expires. This time is longer than
#: the longest time between two runs.
KEPT_SECONDS: Final = LONGEST_SECONDS + 31 * 86_400

_BEGIN: Final = f"""
-- KEYS[1]  hash: the schedule
-- KEYS[2]  hash: the audit that the schedule starts
-- KEYS[3]  zset: all audits
-- ARGV     the audit's id, its specification, ruleset and scanner; the prefix of the keys of audits, which an
--          audit's id follows; seconds until the schedule's hash expires
-- returns 1 if an audit with this id exists now, 0 if the run is skipped
{scripts.CREATE_AUDIT}
local function decided()
    if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
    if redis.call('HGET', KEYS[1], 'skip') == ARGV[1] then return 0 end
    local last = redis.call('HGET', KEYS[1], 'audit')
    local state = last and redis.call('HGET', ARGV[5] .. last, 'state')
    if state == 'running' or state == 'paused' then
        redis.call('HSET', KEYS[1], 'skip', ARGV[1])
        redis.call('HINCRBY', KEYS[1], 'skipped', 1)
        return 0
    end
    redis.call('HSET', KEYS[1], 'audit', ARGV[1])
    return create_audit(KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
end
local begun = decided()
redis.call('EXPIRE', KEYS[1], ARGV[6])
return begun
"""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last audit of a schedule.

    `skipped` counts the runs that were skipped because the schedule's previous audit was running or paused.
    """

    audit_id: str | None
    skipped: int


class ScheduleRuns:
    """The runs of schedules in Redis. The client comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._begin = client.register_script(_BEGIN)

    def begin(self, name: str, audit_id: str, spec: AuditSpec, *, ruleset: str, scanner: str) -> bool:
        """Create the audit of a schedule that is due, unless the schedule's last audit is running or paused.

        Returns:
            True if an audit with this id exists now, even if an earlier call created the audit. False if the
            run was skipped.
        """
        begun = self._begin(
            keys=[keys.schedule(name), keys.audit(audit_id), keys.AUDITS],
            args=[audit_id, spec.model_dump_json(), ruleset, scanner, keys.AUDIT_PREFIX, KEPT_SECONDS],
        )
        return bool(begun)

    def last(self, name: str) -> LastRun:
        """Return the last run of a schedule."""
        found = self._client.hmget(keys.schedule(name), ["audit", "skipped"])
        audit_id, skipped = cast("list[bytes | None]", found)  # clients from `connect` return bytes
        return LastRun(None if audit_id is None else audit_id.decode(), int(skipped or 0))
