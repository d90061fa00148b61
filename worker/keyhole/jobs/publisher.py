"""The port through which entries are published. `fleet` implements it with Celery."""

from collections.abc import Sequence
from typing import Protocol

from keyhole.errors import KeyholeError
from keyhole.jobs.entry import Entry


class DeliveryUncertainError(KeyholeError):
    """The broker failed while entries were published: each of them may have arrived or not.

    Nothing is lost. The entries are in the ledger, and the sweep sends those again that get no verdict.
    """


class Publisher(Protocol):
    """Publishes entries of the ledger, one message each."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Publish entries that are recorded in the ledger.

        Raises:
            DeliveryUncertainError: The broker failed; the ledger has all of them.
        """
