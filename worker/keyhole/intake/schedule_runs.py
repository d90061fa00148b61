"""What a schedule began last, in Redis, so that it begins nothing while that still goes on.

Each time that it is due has an id, which the audit has that begins then. A time that is told of twice, by a
broker that delivers again or by two schedulers, is decided once. A script decides, so that of two that come
at the same moment one finds the other's audit.
"""

from dataclasses import dataclass
from typing import Final, cast

import redis

from keyhole.intake.audits import scripts
from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.recurrence import LONGEST_SECONDS
from keyhole.store import keys

#: Seconds that is kept what a schedule began last: longer than it takes to be due again.
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
    """What a schedule began last, and how often it was due while an audit of its own still went on."""

    audit_id: str | None
    skipped: int


class ScheduleRuns:
    """The runs of schedules, through a client as `keyhole.store.connection.connect` makes it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._begin = client.register_script(_BEGIN)

    def begin(self, name: str, audit_id: str, spec: AuditSpec, *, ruleset: str, scanner: str) -> bool:
        """Begin the audit of a schedule that is due, unless the last that it began runs or is paused.

        Returns:
            Whether there is an audit of this id, begun now or before. If not, it is skipped, and counted.
        """
        begun = self._begin(
            keys=[keys.schedule(name), keys.audit(audit_id), keys.AUDITS],
            args=[audit_id, spec.model_dump_json(), ruleset, scanner, keys.AUDIT_PREFIX, KEPT_SECONDS],
        )
        return bool(begun)

    def last(self, name: str) -> LastRun:
        """What a schedule began last."""
        found = self._client.hmget(keys.schedule(name), ["audit", "skipped"])
        audit_id, skipped = cast("list[bytes | None]", found)  # bytes, as `connect` asks
        return LastRun(None if audit_id is None else audit_id.decode(), int(skipped or 0))
