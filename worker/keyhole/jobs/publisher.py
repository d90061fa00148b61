"""The publisher: the port through which jobs leave for a queue. The application implements it."""

from collections.abc import Sequence
from typing import Protocol

from keyhole.jobs.ledger import Entry


class DeliveryUncertainError(Exception):
    """The broker failed while entries were on their way: each may have arrived or not.

    Nothing is lost: they were noted in the ledger first, and whoever sweeps it sends again what gets no
    verdict.
    """


class Publisher(Protocol):
    """Sends entries of the ledger, one message each."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Send entries that are noted in the ledger.

        Raises:
            DeliveryUncertainError: the broker failed; the ledger has them all.
        """
