"""The interface that publishes entries. The package `fleet` implements it with Celery."""

from collections.abc import Sequence
from typing import Protocol

from keyhole.errors import KeyholeError
from keyhole.jobs.entry import Entry


class DeliveryUncertainError(KeyholeError):
    """The broker failed during publishing, so it is unknown which entries the broker accepted.

    Nothing is lost: all entries are in the ledger, and the sweep resends the entries that get no verdict.
    """


class Publisher(Protocol):
    """Publishes entries of the ledger as one message per entry."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Publish entries that are recorded in the ledger.

        Raises:
            DeliveryUncertainError: The broker failed. All entries are still in the ledger.
        """
