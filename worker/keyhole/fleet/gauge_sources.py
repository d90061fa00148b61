"""Returns the readers of the gauges that fit the store and the broker of the settings."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import amqp  # type: ignore[import-untyped] # kombu's driver; it has no types
from celery import Celery

from keyhole.fleet.broker import is_redis, with_timeout
from keyhole.jobs.queues import QUEUES
from keyhole.metrics.store_reader import Backlog, BrokerReader, Reading, StoreReader
from keyhole.settings import Settings
from keyhole.store.connection import connect


class Sources(NamedTuple):
    """The functions that read the gauges; `broker` is `None` if the broker is the store's server."""

    store: Callable[[], Reading]
    broker: Callable[[], Backlog] | None


def gauge_sources(app: Celery, settings: Settings, *, answer_seconds: float) -> Sources:
    """Return the functions that read the gauges.

    Args:
        app: The configured Celery application.
        settings: The settings, which name a Redis.
        answer_seconds: The longest wait, in seconds, for one response of Redis or of the broker.
    """
    store, broker = str(settings.redis_url), str(settings.broker_url or settings.redis_url)
    client = connect(store, answer_seconds=answer_seconds, retries=0)
    prefix = str(app.conf.broker_transport_options.get("global_keyprefix", ""))
    if broker == store:
        return Sources(StoreReader(client, prefix=prefix).read, None)
    read = StoreReader(client, prefix=None).read
    if is_redis(broker):
        other = connect(broker, answer_seconds=answer_seconds, retries=0)
        return Sources(read, BrokerReader(other, prefix=prefix).read)
    return Sources(read, lambda: Backlog(_lengths(app, answer_seconds), {}))


def _lengths(app: Celery, answer_seconds: float) -> Mapping[str, int]:
    """Return how many messages wait in each queue of RabbitMQ or SQS."""
    options = with_timeout(app.conf.broker_transport_options, answer_seconds)
    found: dict[str, int] = {}
    with app.connection_for_write(connect_timeout=answer_seconds, transport_options=options) as connection:
        for queue in QUEUES:
            with connection.channel() as channel:
                try:
                    declared = app.amqp.queues[queue].bind(channel).queue_declare(passive=True)
                except amqp.NotFound:  # no worker or publisher has declared the queue yet
                    found[queue] = 0
                else:
                    found[queue] = int(declared.message_count)
    return found
