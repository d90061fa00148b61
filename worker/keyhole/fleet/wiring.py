"""Connects the work of this process to its broker: publishes entries and pages, and asks for queue lengths.

Everything here takes the Celery application, so that it works in any thread of any process.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from amqp import AMQPError  # type: ignore[import-untyped] # kombu's driver; it has no types
from celery import Celery
from kombu.exceptions import BatchPublishError, OperationalError

from keyhole.fleet.auditing import AuditWork
from keyhole.fleet.redis_transport import Channel
from keyhole.fleet.scanning import ScanWork
from keyhole.fleet.services import services
from keyhole.intake.audits.records import Claim
from keyhole.jobs.entry import Entry
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.jobs.queues import HOUSEKEEPING


class CeleryPublisher:
    """Publishes entries of the ledger, many in a round trip; a `jobs.publisher.Publisher`."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, entries: Sequence[Entry]) -> None:
        """Publish entries that are recorded in the ledger.

        Raises:
            DeliveryUncertainError: The broker failed; the ledger has all of them.
        """
        if not entries:
            return
        try:
            with self._app.producer_pool.acquire(block=True) as producer, producer.batch():
                for entry in entries:
                    name = "keyhole.scan" if len(entry.jobs) == 1 else "keyhole.scan_batch"
                    self._app.tasks[name].publish(entry, producer=producer)
        except (OperationalError, BatchPublishError, AMQPError) as error:
            raise DeliveryUncertainError(f"the broker failed while jobs were published: {error}") from error


def audit_work(app: Celery) -> AuditWork:
    """Return the work on audits, with this process's services and broker."""
    return AuditWork(
        services(), ScanWork(services()), CeleryPublisher(app), lambda claim: publish_page(app, claim)
    )


def publish_page(app: Celery, claim: Claim) -> None:
    """Publish the task that lists a page of an audit.

    Raises:
        DeliveryUncertainError: The broker failed; the claim is released.
    """
    try:
        app.tasks["keyhole.audit_page"].apply_async(claim, queue=HOUSEKEEPING)
    except (OperationalError, AMQPError) as error:
        services().audits.release(claim)
        raise DeliveryUncertainError(
            f"the broker did not take a page of audit {claim.audit_id}: {error}"
        ) from error


def queue_length(app: Celery, queue: str) -> int:
    """Return how many messages wait in a queue.

    The queue is declared to learn that. A passive declaration does not work: with a key prefix, kombu's Redis
    transport does not find the queue.
    """
    with _channel(app) as channel:
        return int(app.amqp.queues[queue].bind(channel).queue_declare().message_count)


def restore_overdue(app: Celery) -> None:
    """Have Redis deliver messages again whose visibility timeout is over.

    Other brokers do so by themselves.
    """
    with _channel(app) as channel:
        if isinstance(channel, Channel):
            channel.qos.restore_overdue()


@contextmanager
def _channel(app: Celery) -> Iterator[Any]:  # kombu has no types
    """Open a channel. Connect first: a publisher that failed has left a closed connection in the pool."""
    with app.connection_or_acquire() as connection:
        connection.connect()
        with connection.channel() as channel:
            yield channel
