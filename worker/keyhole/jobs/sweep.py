"""The sweep: sends again what a worker or a broker lost and what is due, and gives up what is in vain.

| entry | is lost when |
|---|---|
| held | its holder gave no sign of life for `HOLDER_SECONDS`, whatever its queue holds |
| not held | it was silent for `silent_seconds`, and its message cannot be waiting any more: its queue is empty, or entries that were noted later have begun |

A busy queue is no reason to send anything again. Sending again what was not lost after all costs a delivery
and no second verdict.
"""  # noqa: E501 - the rows of the table are one line each

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from keyhole.jobs.ledger import HOLDER_SECONDS, Entry, Ledger
from keyhole.jobs.publisher import Publisher
from keyhole.jobs.queues import QUEUES

log = logging.getLogger(__name__)

#: How often an entry is sent again without progress. One that is lost by accident comes through at once.
MOST_TIMES: Final = 5
#: Entries of a queue in one step, and steps of one sweep; the next sweep takes the others.
_PAGE, _PAGES = 1000, 20


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Sweeps the ledger.

    Args:
        ledger: What was accepted.
        publisher: Sends entries to their queues.
        waiting: How many messages wait in a queue.
        give_up: Told of an entry that is sent no more, before it is buried, and why.
        silent_seconds: How long an entry that nobody holds must have been silent.
    """

    ledger: Ledger
    publisher: Publisher
    waiting: Callable[[str], int]
    give_up: Callable[[Entry, str], None]
    silent_seconds: float

    def sweep(self) -> int:
        """Sweep once; returns how many entries were sent again.

        Raises:
            DeliveryUncertainError: The broker failed; the next sweep tries again.
        """
        sent = self._send_due()
        for queue in QUEUES:
            sent += self._send_again(queue, self._lost_with_their_holders(queue), "their workers were lost")
            sent += self._send_again(queue, self._lost_by_the_broker(queue), "the broker lost them")
        return sent

    def _send_due(self) -> int:
        """Send what was postponed and is due. What the broker does not take now is found as lost later."""
        sent = 0
        for _ in range(_PAGES):
            due = self.ledger.take_due(_PAGE)
            self.publisher.publish(due)
            sent += len(due)
            if len(due) < _PAGE:
                break
        return sent

    def _send_again(self, queue: str, lost: Iterator[Entry], why: str) -> int:
        again = []
        for entry in lost:
            if self._may_come_through(entry):
                again.append(entry)
            else:
                self._give_up(entry)
        if again:
            log.warning("%d entries of %s are sent again: %s", len(again), queue, why)
            self.publisher.publish(again)
            # Counted only now: what the broker did not take was not in vain.
            for entry in again:
                self.ledger.sent_again(entry)
        return len(again)

    def _may_come_through(self, entry: Entry) -> bool:
        """Whether an entry made progress lately, or has not been sent again too often."""
        return self.ledger.times_sent_again(entry) < MOST_TIMES or self.ledger.made_progress(entry)

    def _give_up(self, entry: Entry) -> None:
        reason = f"it was sent again {MOST_TIMES} times, and nobody finished it"
        log.error("entry %s is given up: %s", entry.id, reason)
        try:
            self.give_up(entry, reason)
        except Exception:
            log.exception("entry %s cannot be given up; the next sweep tries again", entry.id)
        else:
            self.ledger.bury(entry)

    def _lost_with_their_holders(self, queue: str) -> Iterator[Entry]:
        for open_entry in self.ledger.take_back(queue, _PAGE, seconds=HOLDER_SECONDS):
            # The message of one that was sent too often may still wait. Only once the broker has lost that,
            # too, the entry is given up.
            if self._may_come_through(open_entry.entry):
                yield open_entry.entry

    def _lost_by_the_broker(self, queue: str) -> Iterator[Entry]:
        if not self.ledger.silent(queue, 1, seconds=self.silent_seconds):
            return
        found = (
            self.ledger.passed_over(queue, _PAGE, seconds=self.silent_seconds)
            if self.waiting(queue)
            else self.ledger.silent(queue, _PAGE, seconds=self.silent_seconds)
        )
        for open_entry in found:
            yield open_entry.entry
