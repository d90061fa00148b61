"""The doctor's checks of the broker, its queues and the workers that are connected to it."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final, cast

import amqp  # type: ignore[import-untyped] # kombu's driver; it has no types
import redis
from kombu.exceptions import KombuError, OperationalError

from keyhole.app import app
from keyhole.cli.doctor_check import ANSWER_SECONDS, SLOW_SERVER, one_line
from keyhole.cli.doctor_redis import ask, of_redis_broker
from keyhole.cli.findings import ADVICE, BAD, GOOD, Finding
from keyhole.cli.other_end import other_end
from keyhole.fleet.broker import with_timeout
from keyhole.jobs.message_age import age_in_redis
from keyhole.jobs.queues import QUEUES
from keyhole.masking import masked_url
from keyhole.settings import Settings

#: Seconds to wait for the answers of workers.
PING_SECONDS = 2.0
#: Seconds between the two attempts to connect to a broker.
PAUSE_SECONDS: Final = 0.5
#: The URL schemes of Redis.
REDIS: Final = frozenset({"redis", "rediss", "unix"})
#: If the oldest message of a queue has waited for more than this many seconds, the doctor recommends more
#: workers.
LATE: Final = 600.0
#: The errors that kombu raises if the broker fails.
TROUBLE: Final = (KombuError, OperationalError, amqp.AMQPError, redis.RedisError, OSError)


def be_impatient() -> None:
    """Let the Celery application wait for at most `ANSWER_SECONDS` seconds for the broker.

    The application must already be configured.
    """
    app.conf.broker_transport_options = with_timeout(app.conf.broker_transport_options, ANSWER_SECONDS)


class Answering:
    """The check whether the broker answers and Keyhole can use it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trouble: Exception | None = None

    def findings(self) -> Iterator[Finding]:
        """Yield findings on the broker. If the broker does not answer, the first finding is bad."""
        url = str(self._settings.broker_url or self._settings.redis_url)
        if url.partition(":")[0] in REDIS and url != self._settings.redis_url:
            yield from of_redis_broker(url, "KEYHOLE_BROKER_URL")
            return
        try:
            with app.connection_for_write(connect_timeout=ANSWER_SECONDS) as connection:
                connection.ensure_connection(
                    self._note, max_retries=1, interval_start=PAUSE_SECONDS, timeout=ANSWER_SECONDS
                )
        except TROUBLE as error:
            told = f"{masked_url(url)} does not answer: {one_line(error)}{other_end(url)}"
            yield Finding("broker", BAD, f"{told}; check KEYHOLE_BROKER_URL")
        else:
            yield Finding("broker", GOOD, f"{masked_url(url)} answers")

    def why_late(self) -> str:
        """Return the error after which the check tried again."""
        return SLOW_SERVER if self._trouble is None else one_line(self._trouble)

    def _note(self, error: Exception, _: float) -> None:
        self._trouble = error


def of_workers(*, embedded: bool) -> Iterator[Finding]:
    """Yield a finding on the workers that answer a ping."""
    try:
        answers = app.control.ping(timeout=PING_SECONDS) or []
    except TROUBLE as error:
        yield Finding("workers", BAD, f"unknown, because the broker refuses the ping: {one_line(error)}")
        return
    names = sorted(name for answer in answers for name in answer)
    if names:
        yield Finding("workers", GOOD, f"{len(names)} running: {', '.join(names)}")
    elif embedded:
        yield Finding("workers", GOOD, "none running; `keyhole submit` starts one")
    else:
        advice = "start one with `keyhole worker`"
        yield Finding("workers", BAD, f"none answered within {PING_SECONDS:g} s; {advice}")


def of_queues(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each queue: how many messages wait, and how long the oldest message has waited."""
    url = str(settings.broker_url or settings.redis_url)
    prefix = app.conf.broker_transport_options.get("global_keyprefix")
    with ExitStack() as stack:
        client = None if prefix is None else stack.enter_context(ask(url, is_broker=True))
        for queue in QUEUES:
            try:
                if client is None:
                    length, oldest = _length(queue), None
                else:
                    # kombu adds messages on the left of the list, so the oldest message is on the right.
                    key = prefix + queue
                    length = client.llen(key)
                    oldest = age_in_redis(cast("bytes | None", client.lindex(key, -1)), time.time())
            except TROUBLE as error:
                yield Finding("queue", BAD, f"{queue} cannot be read: {one_line(error)}")
                continue
            told = f"{queue}: {length:,} waiting"
            if oldest is None:
                yield Finding("queue", GOOD, told)
            else:
                late = oldest > LATE
                yield Finding(
                    "queue",
                    ADVICE if late else GOOD,
                    f"{told}, the oldest for {oldest:,.0f} s{'; more workers would help' if late else ''}",
                )


def _length(queue: str) -> int:
    """Return how many messages wait in a queue of RabbitMQ."""
    with (
        app.connection_for_write(connect_timeout=ANSWER_SECONDS) as connection,
        connection.channel() as channel,
    ):
        try:
            return int(app.amqp.queues[queue].bind(channel).queue_declare(passive=True).message_count)
        except amqp.NotFound:  # no worker or publisher has declared the queue yet
            return 0
