"""Returns the reader of the gauges that fits the store and the broker of the settings."""

from collections.abc import Mapping

import amqp  # type: ignore[import-untyped] # kombu's driver; it has no types
from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from keyhole.fleet.broker import is_redis, with_timeout
from keyhole.jobs.queues import QUEUES
from keyhole.metrics.reading import StoreReader, lengths_in_redis
from keyhole.settings import Settings
from keyhole.store.connection import connect


def store_reader(app: Celery, settings: Settings, *, answer_seconds: float) -> StoreReader:
    """Return a reader of the gauges.

    Args:
        app: The configured Celery application.
        settings: The settings, which name a Redis.
        answer_seconds: The longest wait, in seconds, for one response of Redis or of the broker.
    """
    store, broker = str(settings.redis_url), str(settings.broker_url or settings.redis_url)
    client = connect(store, answer_seconds=answer_seconds, retries=0)
    prefix = str(app.conf.broker_transport_options.get("global_keyprefix", ""))
    if broker == store:
        return StoreReader(client, prefix=prefix)
    if is_redis(broker):
        other = connect(broker, answer_seconds=answer_seconds, retries=0)
        return StoreReader(client, prefix=None, lengths=lengths_in_redis(other, prefix))
    return StoreReader(client, prefix=None, lengths=lambda: (_lengths(app, answer_seconds), {}))


def _lengths(app: Celery, answer_seconds: float) -> Mapping[str, int]:
    """Return how many messages wait in each queue of RabbitMQ or SQS; nothing if the broker fails."""
    options = with_timeout(app.conf.broker_transport_options, answer_seconds)
    found: dict[str, int] = {}
    try:
        with app.connection_for_write(
            connect_timeout=answer_seconds, transport_options=options
        ) as connection:
            for queue in QUEUES:
                with connection.channel() as channel:
                    try:
                        declared = app.amqp.queues[queue].bind(channel).queue_declare(passive=True)
                    except amqp.NotFound:  # no worker or publisher has declared the queue yet
                        found[queue] = 0
                    else:
                        found[queue] = int(declared.message_count)
    except (KombuError, OperationalError, amqp.AMQPError, OSError):
        return {}
    return found
