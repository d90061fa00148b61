"""The sweep repairs the ledger, which has an entry for each message that is queued or in progress.

The sweep resends the messages of lost entries, sends entries that are due, and gives up entries that keep
failing.

| entry | is lost if |
|---|---|
| leased | its holder has sent no heartbeat for `LEASE_SECONDS` |
| not leased | it has been idle for `idle_seconds`, and its message is no longer in the queue. The sweep concludes this if the queue is empty, or if workers have begun entries that were recorded later |

So entries that only wait in a long queue are not sent again. If the sweep nevertheless resends an entry that
was not lost, workers receive its message twice, but write no second verdict.
"""  # noqa: E501 - the rows of the table are one line each

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from keyhole.jobs.entry import Entry
from keyhole.jobs.lease_length import LEASE_SECONDS
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.publisher import Publisher
from keyhole.jobs.queues import QUEUES

log = logging.getLogger(__name__)

#: After this many resends without progress, the sweep gives up an entry. If only a message was lost, the
#: first resend already succeeds.
MAX_RESENDS: Final = 5
#: A sweep reads entries from Redis in pages of up to `_PAGE` entries. It reads one page of each queue's lost
#: entries, and up to `_PAGES` pages of the postponed entries. The next sweep handles the remaining entries.
_PAGE, _PAGES = 1000, 20


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Sweeps the ledger.

    Args:
        ledger: The ledger.
        publisher: Publishes entries to their queues.
        queue_length: Returns the number of messages in a queue.
        give_up: Called with an entry and the reason before the sweep gives up and discards the entry.
        idle_seconds: The sweep checks entries without a lease after this many seconds without activity.
    """

    ledger: Ledger
    publisher: Publisher
    queue_length: Callable[[str], int]
    give_up: Callable[[Entry, str], None]
    idle_seconds: float

    def sweep(self) -> int:
        """Sweep once, and return the number of entries that were sent.

        Raises:
            DeliveryUncertainError: The broker failed; the next sweep tries again.
        """
        sent = self._send_due()
        for queue in QUEUES:
            sent += self._send_again(queue, self._lost_with_worker(queue), "their workers were lost")
            sent += self._send_again(queue, self._lost_by_broker(queue), "the broker lost them")
        return sent

    def _send_due(self) -> int:
        """Send postponed entries that are due.

        If the broker fails, a later sweep finds these entries lost, and sends them again.
        """
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
            log.warning("sending %d entries of %s again: %s", len(again), queue, why)
            self.publisher.publish(again)
            # Count the resend only after publishing. If the broker fails, `publish` raises an error, and the
            # resend is not counted.
            for entry in again:
                self.ledger.count_resend(entry)
        return len(again)

    def _may_succeed(self, entry: Entry) -> bool:
        """Whether an entry made progress since its last resend, or may be resent again (`MAX_RESENDS`)."""
        return self.ledger.resend_count(entry) < MAX_RESENDS or self.ledger.made_progress(entry)

    def _give_up(self, entry: Entry) -> None:
        reason = f"it was sent again {MAX_RESENDS} times without progress"
        log.error("giving up entry %s: %s", entry.id, reason)
        try:
            self.give_up(entry, reason)
        except Exception:
            log.exception("giving up entry %s failed; the next sweep tries again", entry.id)
        else:
            self.ledger.discard(entry)

    def _lost_with_worker(self, queue: str) -> Iterator[Entry]:
        for open_entry in self.ledger.leases.reclaim(queue, _PAGE, seconds=LEASE_SECONDS):
            # Do not resend an entry that was resent too often, and do not give it up yet: its last message
            # may still be in the queue. If that message is lost, too, `_lost_by_broker` finds the entry
            # later, and the sweep then gives it up.
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
