"""Publishes the messages for jobs and for pages of audits, and reads the lengths of the broker's queues.

Every function takes the Celery application as an argument, so it works in every thread of every process.
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
    """Publishes entries of the ledger (`keyhole.jobs.ledger`), many in one round trip.

    It implements `jobs.publisher.Publisher`.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    def publish(self, entries: Sequence[Entry]) -> None:
        """Publish entries that are recorded in the ledger.

        Raises:
            DeliveryUncertainError: The broker failed. The sweep later publishes the entries that the broker
                did not accept.
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
    """Return an `AuditWork` that uses the services and the broker of this process."""
    return AuditWork(
        services(), ScanWork(services()), CeleryPublisher(app), lambda claim: publish_page(app, claim)
    )


def publish_page(app: Celery, claim: Claim) -> None:
    """Publish the task that lists a page of an audit.

    Raises:
        DeliveryUncertainError: The broker failed. The claim is released.
    """
    try:
        app.tasks["keyhole.audit_page"].apply_async(claim, queue=HOUSEKEEPING)
    except (OperationalError, AMQPError) as error:
        services().audits.release(claim)
        raise DeliveryUncertainError(
            f"the broker did not accept a page of audit {claim.audit_id}: {error}"
        ) from error


def queue_length(app: Celery, queue: str) -> int:
    """Return the number of messages that wait in a queue.

    The function declares the queue, because the broker's answer to a declaration contains this number. It
    does not use a passive declaration, because kombu's Redis transport does not find the queue that way if
    the keys have a prefix.
    """
    with _channel(app) as channel:
        return int(app.amqp.queues[queue].bind(channel).queue_declare().message_count)


def restore_overdue(app: Celery) -> None:
    """If the broker is Redis, return to their queues all messages whose visibility timeout is over.

    Other brokers do this themselves.
    """
    with _channel(app) as channel:
        if isinstance(channel, Channel):
            channel.qos.restore_overdue()


@contextmanager
def _channel(app: Celery) -> Iterator[Any]:  # kombu has no types
    """Open a channel to the broker.

    A failed publisher can leave a closed connection in the connection pool. So connect again first.
    """
    with app.connection_or_acquire() as connection:
        connection.connect()
        with connection.channel() as channel:
            yield channel
