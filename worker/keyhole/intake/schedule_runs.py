"""The last audit of each schedule, in Redis. A schedule starts no audit while its last one is running.

Each due time has an id, which is also the id of its audit. If a due time is published twice, by a second
delivery or by two schedulers, it is decided once. A script decides, so if two workers ask at the
same moment, one finds the other's audit.
"""

from dataclasses import dataclass
from typing import Final, cast

import redis

from keyhole.intake.audits import scripts
from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.recurrence import LONGEST_SECONDS
from keyhole.store import keys

#: Seconds for which a schedule's last audit is kept: longer than any schedule takes to be due again.
KEPT_SECONDS: Final = LONGEST_SECONDS + 31 * 86_400

_BEGIN: Final = f"""
-- KEYS[1]  hash: the schedule
-- KEYS[2]  hash: the audit that it is to begin
-- KEYS[3]  zset: all audits
-- ARGV     the audit's id, its specification, ruleset, scanner; the prefix of an audit's id in its key;
--          seconds that the schedule's hash is kept
-- returns 1 if there is an audit of this id now, 0 if it is skipped
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
    """The last audit of a schedule, and the number of runs skipped because it was still running."""

    audit_id: str | None
    skipped: int


class ScheduleRuns:
    """The runs of schedules in Redis, through a client of `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._begin = client.register_script(_BEGIN)

    def begin(self, name: str, audit_id: str, spec: AuditSpec, *, ruleset: str, scanner: str) -> bool:
        """Create the audit of a schedule that is due, unless the last one is running or paused.

        Returns:
            Whether there is an audit of this id, created now or before. If not, this is counted as skipped.
        """
        begun = self._begin(
            keys=[keys.schedule(name), keys.audit(audit_id), keys.AUDITS],
            args=[audit_id, spec.model_dump_json(), ruleset, scanner, keys.AUDIT_PREFIX, KEPT_SECONDS],
        )
        return bool(begun)

    def last(self, name: str) -> LastRun:
        """Return the last run of a schedule."""
        found = self._client.hmget(keys.schedule(name), ["audit", "skipped"])
        audit_id, skipped = cast("list[bytes | None]", found)  # `connect` asks for bytes
        return LastRun(None if audit_id is None else audit_id.decode(), int(skipped or 0))
