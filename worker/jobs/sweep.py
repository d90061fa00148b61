"""The sweep: sends again what a broker lost, and gives up what was sent again too often.

An entry is taken for lost when it has been silent for long enough, and its message cannot be waiting any
more: its queue is empty, or entries that were noted later have begun. A busy queue is no reason to send
anything again. Sending again what was not lost after all costs a delivery and no second verdict.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from worker.jobs.ledger import Entry, Ledger
from worker.jobs.publisher import Publisher
from worker.jobs.queues import QUEUES

log = logging.getLogger(__name__)

#: How often an entry is sent again. One that is lost by accident comes through at once.
MOST_TIMES: Final = 5
#: Entries of a queue in one sweep; the next takes the others.
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Sweeps the ledger.

    Args:
        ledger: What was accepted.
        publisher: Sends entries to their queues.
        waiting: How many messages wait in a queue.
        give_up: Told of an entry that is sent no more, before it is buried, and why.
        silent_seconds: How long an entry must have been silent: longer than the longest scan of an object.
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
        sent = 0
        for queue in QUEUES:
            again = []
            for entry in self._lost(queue):
                if self.ledger.times_sent_again(entry) < MOST_TIMES:
                    again.append(entry)
                else:
                    self._give_up(entry)
            if again:
                log.warning("%d entries of %s were lost, and are sent again", len(again), queue)
                self.publisher.publish(again)
                # Counted only now: what the broker did not take was not in vain.
                for entry in again:
                    self.ledger.sent_again(entry)
                sent += len(again)
        return sent

    def _give_up(self, entry: Entry) -> None:
        reason = f"it was sent again {MOST_TIMES} times, and nobody finished it"
        log.error("entry %s is given up: %s", entry.id, reason)
        try:
            self.give_up(entry, reason)
        except Exception:
            log.exception("entry %s cannot be given up; the next sweep tries again", entry.id)
        else:
            self.ledger.bury(entry)

    def _lost(self, queue: str) -> Iterator[Entry]:
        if not self.ledger.silent(queue, 1, seconds=self.silent_seconds):
            return
        found = (
            self.ledger.passed_over(queue, _PAGE, seconds=self.silent_seconds)
            if self.waiting(queue)
            else self.ledger.silent(queue, _PAGE, seconds=self.silent_seconds)
        )
        for open_entry in found:
            yield open_entry.entry
