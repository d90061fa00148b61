"""Provides Redis and workers for a command.

If no Redis is configured, a command starts an embedded Valkey and, if it queues jobs, an embedded worker. The
Valkey and the worker end together with the command.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import redis

from keyhole.cli.aws_options import tell_that_workers_differ
from keyhole.cli.errors import USAGE, CommandError
from keyhole.cli.other_end import other_end
from keyhole.cli.redis_trouble import is_refused, redis_trouble, replica_of, unusable
from keyhole.embedded.processes import worker_process
from keyhole.embedded.valkey import EmbeddedError, embedded_valkey
from keyhole.settings import Settings
from keyhole.store.connection import connect
from keyhole.store.permissions import OPTIONAL, lacking

#: Seconds to wait for the first answer of a Redis or a broker.
ANSWER_SECONDS: Final = 5.0


@contextmanager
def backend(settings: Settings, *, work: bool, waits: bool = False, look: bool = True) -> Iterator[Settings]:
    """Yield settings that name a usable Redis and broker.

    Args:
        settings: The settings from the environment.
        work: Whether the command queues jobs and therefore needs a worker. If this is true and no Redis is
            configured, an embedded worker runs in addition to the embedded Valkey.
        waits: Whether the command itself waits, without a time limit, until Redis and the broker can be
            reached.
        look: Whether to check first that Keyhole can use the configured Redis and broker.

    Raises:
        CommandError: The configured Redis or broker cannot be used, or a broker is configured without a
            Redis.
        EmbeddedError: The embedded Valkey does not start.
    """
    if settings.redis_url is None and settings.broker_url is not None:
        raise CommandError(
            "KEYHOLE_BROKER_URL is set, but KEYHOLE_REDIS_URL (the Redis for verdicts) is not", USAGE
        )
    if settings.redis_url is not None:
        if look:
            refuse_unusable(settings, work=work, waits=waits)
        if work:
            tell_that_workers_differ()
        yield settings
        return
    with ExitStack() as stack:
        url = stack.enter_context(embedded_valkey(settings.data_dir))
        embedded = settings.model_copy(update={"redis_url": url, "broker_url": url})
        if work:
            log = settings.data_dir / "worker.log"
            try:
                stack.enter_context(worker_process(embedded, log))
            except OSError as error:
                raise EmbeddedError(f"the embedded worker does not start: {error}") from error
        yield embedded


def refuse_unusable(settings: Settings, *, work: bool, waits: bool) -> None:
    """End a command that cannot use its Redis or its broker.

    Args:
        settings: Settings that name a Redis.
        work: Whether the command writes to Redis and queues jobs.
        waits: Whether the command itself waits until the servers can be reached. Otherwise, the command ends
            when Redis has not answered within `ANSWER_SECONDS`. RabbitMQ is checked only if `waits` is true.

    Raises:
        CommandError: Keyhole cannot use the Redis or the broker, or the server refuses the connection.
    """
    url, broker = str(settings.redis_url), settings.broker_url
    one = broker is None or broker == url
    _look_at_redis(url, "KEYHOLE_REDIS_URL", writes=work, waits=waits, is_broker=work and one)
    if not work or broker is None or one:
        return
    if broker.partition(":")[0] in {"redis", "rediss", "unix"}:
        _look_at_redis(broker, "KEYHOLE_BROKER_URL", writes=True, waits=waits, is_broker=True)
    elif waits and broker.startswith("amqp"):
        _look_at_rabbitmq(settings)


def refuse_powerless(settings: Settings) -> None:
    """End this worker if its Redis user lacks permissions. If Redis is unreachable, do nothing.

    Raises:
        CommandError: The user lacks permissions, which the message lists.
    """
    is_broker = settings.broker_url in {None, settings.redis_url}
    try:
        with connect(str(settings.redis_url), answer_seconds=ANSWER_SECONDS, retries=0) as client:
            missing = lacking(client, is_broker=is_broker)
    except redis.RedisError:
        return
    needed = [rule for rule in missing if rule not in OPTIONAL]
    if needed:
        raise CommandError(
            f"the user of KEYHOLE_REDIS_URL lacks {' '.join(needed)}; grant these rules", USAGE
        )


def _look_at_redis(url: str, setting: str, *, writes: bool, waits: bool, is_broker: bool) -> None:
    """End the command if Keyhole cannot use this Redis, or if only one end of the connection uses TLS.

    Also end the command if `is_broker` is true and this Redis belongs to a cluster.

    If Redis does not answer in time, end the command unless `waits` is true. After every other connection
    error, return. The command itself then waits for Redis, or fails when it uses Redis.
    """
    try:
        with connect(url, answer_seconds=ANSWER_SECONDS, retries=0, only_server=is_broker) as client:
            info: dict[str, Any] = client.info()
    except redis.exceptions.NoPermissionError:
        return  # Keyhole works without the permission to run INFO
    except redis.RedisError as error:
        if is_refused(error):
            raise CommandError(redis_trouble(error, setting)) from error
        advice = other_end(url)
        if advice or (isinstance(error, redis.TimeoutError) and not waits):
            raise CommandError(redis_trouble(error, setting) + advice) from error
        return
    of_no_use = unusable(info, url, setting, is_broker=is_broker)
    if of_no_use is not None:
        raise CommandError(of_no_use, USAGE)
    replica = replica_of(info, setting) if writes else None
    if replica is not None:
        raise CommandError(f"the Redis is {replica}")


def _look_at_rabbitmq(settings: Settings) -> None:
    """End the command if RabbitMQ refuses the connection.

    RabbitMQ refuses the connection if the login or the virtual host is wrong. Also end the command if
    RabbitMQ has an untrusted certificate, or if only one end of the connection uses TLS. After every other
    error, return: the command itself then waits for RabbitMQ.
    """
    from amqp import AMQPError  # type: ignore[import-untyped] # kombu's driver; it has no types

    from keyhole.app import configure

    url = str(settings.broker_url)
    try:
        with configure(settings).connection_for_write(connect_timeout=ANSWER_SECONDS) as connection:
            connection.connect()
    except AMQPError as error:
        raise CommandError(
            f"the broker refuses the connection ({error}); correct KEYHOLE_BROKER_URL"
        ) from error
    except OSError as error:
        advice = other_end(url)
        if advice or "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise CommandError(
                f"the broker does not answer ({error}){advice}; check KEYHOLE_BROKER_URL"
            ) from error


def is_embedded(settings: Settings) -> bool:
    """Return whether commands with these settings use the embedded Valkey and worker."""
    return settings.redis_url is None
