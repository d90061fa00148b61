"""Records the event about a verdict, which Keyhole must send to the sinks, together with the verdict.

A script records the event in the same step in which it records the verdict. If the worker is killed right
after this step, another worker finds the recorded event and sends it (`keyhole.jobs.deliveries`). So no event
is lost.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from keyhole.reasons import Status
from keyhole.results.sinks.event import Event
from keyhole.scan.report import Report
from keyhole.store import keys
from keyhole.store.clock import NOW
from keyhole.store.round_trips import Step

#: Defines the Lua function `owe`, which records an event for each sink. The event is due immediately. If the
#: event is already recorded for a sink, the function changes nothing for this sink.
OWE: Final = f"""
{NOW}
-- first  the index in KEYS of the clock. Two keys follow for each sink: the hash of the debt, and the zset of
--        the debts that are owed. Without sinks, these keys are missing, and the function does nothing.
-- id     the event's id
-- event  the event (JSON)
local function owe(first, id, event)
    if #KEYS <= first then return end
    local at = text(now(KEYS[first]))
    for i = first + 1, #KEYS, 2 do
        if redis.call('HSETNX', KEYS[i], 'debt', event) == 1 then
            redis.call('HSET', KEYS[i], 'noted', id)
            redis.call('ZADD', KEYS[i + 1], at, id)
        end
    end
end
"""

_OWE_ONLY: Final = f"""
-- KEYS     as for `owe`, the clock first
-- ARGV[1]  the event's id
-- ARGV[2]  the event (JSON)
{OWE}
owe(1, ARGV[1], ARGV[2])
return 1
"""


def kind_of(sink: str) -> str:
    """Return the kind of debt for a sink. Unsent events are recorded as debts (`keyhole.jobs.debts`)."""
    return f"sink:{sink}"


class Owing(NamedTuple):
    """The keys and the arguments of the Lua function `owe`.

    If there is no event to record, `keys` is empty.
    """

    keys: Sequence[str] = ()
    event_id: str = ""
    event: bytes = b""


class Notifier(NamedTuple):
    """Decides which verdicts are sent to which sinks.

    Args:
        sinks: The names of the sinks that receive events.
        statuses: The statuses of the verdicts that are sent.
    """

    sinks: Sequence[str] = ()
    statuses: Sequence[Status] = ()

    def owing(self, report: Report, *, job_id: str) -> Owing:
        """Return the keys and arguments with which `owe` records the event for a verdict."""
        if not self.sinks or report.status not in self.statuses:
            return Owing()
        event = Event.of(report, job_id=job_id)
        named = [keys.LEDGER_CLOCK]
        for sink in self.sinks:
            kind = kind_of(sink)
            named += [keys.debt(kind, event.id), keys.debts(kind, "owed")]
        return Owing(named, event.id, event.body)

    def recording(self, report: Report, *, job_id: str) -> list[Step]:
        """Return a step that records only the event for a verdict, and not the verdict itself.

        If no sink gets the event, return no step.
        """
        owing = self.owing(report, job_id=job_id)
        return [Step(_OWE_ONLY, owing.keys, [owing.event_id, owing.event])] if owing.keys else []


#: A notifier that sends no events.
NOBODY: Final = Notifier()
