"""The sweep: sends lost and due entries again, and gives up entries that make no progress.

| entry | is lost if |
|---|---|
| leased | its holder has sent no heartbeat for `LEASE_SECONDS`; the queue does not matter |
| not leased | it has been idle for `idle_seconds`, and its message cannot be waiting any longer: the queue is empty, or workers have begun entries that were recorded later |

A long queue alone is not a reason to send anything again. If an entry was not lost after all, sending it again
costs one delivery, and does not lead to a second verdict.
"""  # noqa: E501 - the rows of the table are one line each

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from keyhole.jobs.entry import LEASE_SECONDS, Entry
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.publisher import Publisher
from keyhole.jobs.queues import QUEUES

log = logging.getLogger(__name__)

#: The most resends of an entry without progress. An entry that was lost by accident succeeds at once.
MAX_RESENDS: Final = 5
#: Entries of a queue in one step, and steps of one sweep. The next sweep takes the others.
_PAGE, _PAGES = 1000, 20


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Sweeps the ledger.

    Args:
        ledger: The ledger.
        publisher: Publishes entries to their queues.
        queue_length: Returns how many messages wait in a queue.
        give_up: Called with an entry that is not sent again, and the reason, before the entry is discarded.
        idle_seconds: How long an entry without a lease must have been idle.
    """

    ledger: Ledger
    publisher: Publisher
    queue_length: Callable[[str], int]
    give_up: Callable[[Entry, str], None]
    idle_seconds: float

    def sweep(self) -> int:
        """Sweep once, and return how many entries were sent again.

        Raises:
            DeliveryUncertainError: The broker failed; the next sweep tries again.
        """
        sent = self._send_due()
        for queue in QUEUES:
            sent += self._send_again(queue, self._lost_with_worker(queue), "their workers were lost")
            sent += self._send_again(queue, self._lost_by_broker(queue), "the broker lost them")
        return sent

    def _send_due(self) -> int:
        """Send postponed entries that are due. If the broker fails, a later sweep treats them as lost."""
        sent = 0
        for _ in range(_PAGES):
            due = self.ledger.pop_due(_PAGE)
            self.publisher.publish(due)
            sent += len(due)
            if len(due) < _PAGE:
                break
        return sent

    def _send_again(self, queue: str, lost: Iterator[Entry], why: str) -> int:
        again = []
        for entry in lost:
            if self._may_succeed(entry):
                again.append(entry)
            else:
                self._give_up(entry)
        if again:
            log.warning("%d entries of %s are sent again: %s", len(again), queue, why)
            self.publisher.publish(again)
            # Count afterwards: an entry that the broker did not take has not been tried.
            for entry in again:
                self.ledger.count_resend(entry)
        return len(again)

    def _may_succeed(self, entry: Entry) -> bool:
        """Whether an entry has made progress, or has not been sent again too often."""
        return self.ledger.resend_count(entry) < MAX_RESENDS or self.ledger.made_progress(entry)

    def _give_up(self, entry: Entry) -> None:
        reason = f"it was sent again {MAX_RESENDS} times without progress"
        log.error("entry %s is given up: %s", entry.id, reason)
        try:
            self.give_up(entry, reason)
        except Exception:
            log.exception("entry %s cannot be given up; the next sweep tries again", entry.id)
        else:
            self.ledger.discard(entry)

    def _lost_with_worker(self, queue: str) -> Iterator[Entry]:
        for open_entry in self.ledger.leases.reclaim(queue, _PAGE, seconds=LEASE_SECONDS):
            # If it was sent too often, a message of it may still wait. It is given up when that is lost, too.
            if self._may_succeed(open_entry.entry):
                yield open_entry.entry

    def _lost_by_broker(self, queue: str) -> Iterator[Entry]:
        if not self.ledger.idle(queue, 1, seconds=self.idle_seconds):
            return
        found = (
            self.ledger.overtaken(queue, _PAGE, seconds=self.idle_seconds)
            if self.queue_length(queue)
            else self.ledger.idle(queue, _PAGE, seconds=self.idle_seconds)
        )
        for open_entry in found:
            yield open_entry.entry
