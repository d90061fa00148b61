"""The consumer of a worker, which makes a dead letter of each message that it cannot work on.

Celery drops messages that name an unknown task, or whose bodies it cannot decode. This consumer checks each
message before it is decoded or decompressed, and refuses unsigned messages if there are keys. A refused
message becomes a dead letter and is then acknowledged. If Redis does not take the dead letter, the message
stays unacknowledged, and the worker tries again after a pause. The worker does not put the message back
into its queue: by default, a quorum queue of RabbitMQ 4 drops a message that was rejected 20 times. If the
connection closes or the worker ends, the broker delivers the message again.
"""

import logging
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, Final

import amqp  # type: ignore[import-untyped] # kombu's driver; it has no types
import kombu.compression
import redis
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer, state
from celery.worker.control import Panel
from kombu.asynchronous import set_event_loop

from keyhole.fleet.broker import with_timeout
from keyhole.fleet.loop_watch import HEARTBEAT
from keyhole.fleet.services import LOOP_SECONDS, services
from keyhole.fleet.signing import why_refused
from keyhole.intake.refused import Refused, keep, why_invalid

log = logging.getLogger(__name__)

#: Messages are not decompressed: 816 KB of gzip took 1.3 GB, and Keyhole does not compress its messages. Only
#: workers import this module, so programs that submit jobs keep their decoders.
kombu.compression._decoders.clear()  # noqa: SLF001 - kombu can register decoders, and not remove them

#: The longest pause in seconds between two attempts to connect to a broker.
LONGEST_PAUSE: Final = 4

#: Seconds until the worker asks Redis again to store a dead letter, or whether a message is a replay.
KEEP_PAUSE: Final = 5.0

#: The arguments of a quorum queue.
QUORUM: Final = {"x-queue-type": "quorum"}

Handler = Callable[[Any], None]

#: Anybody who can write to the broker can send remote-control commands to a worker. It only keeps `ping`,
#: which the doctor uses: no shutdown, no revocation, no rate limit, no restart of its pool.
for _command in Panel.data.keys() - {"ping"}:
    del Panel.data[_command]

_UNKNOWN_TASK: Final = "it names the task {!r}, which this version does not know"


class Consumer(consumer.Consumer):  # type: ignore[misc] # Celery has no types
    """Celery's consumer, which makes dead letters of messages that it refuses."""

    def create_task_handler(self, *args: Any, **options: Any) -> Handler:  # noqa: ANN401 - Celery's
        """Return the function that is called with every message."""
        handle: Handler = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:  # noqa: ANN401 - kombu has no types
            wrong = why_invalid(message.headers, message.body)
            # Celery has tasks of its own, which Keyhole does not send.
            if wrong is None and not self._is_ours(message.headers["task"]):
                wrong = _UNKNOWN_TASK.format(message.headers["task"])
            if wrong is None:
                try:
                    wrong = _not_signed(message)
                except redis.RedisError:
                    log.exception(
                        "Redis does not answer whether a message is a replay; it is asked again in %g s",
                        KEEP_PAUSE,
                    )
                    self.timer.call_after(KEEP_PAUSE, on_message, (message,))
                    return
            if wrong is None:
                # The sender must not decide how long the work may take.
                message.headers.pop("timelimit", None)
                handle(message)
            else:
                self.refuse(message, wrong)

        return on_message

    def _is_ours(self, task: object) -> bool:
        return isinstance(task, str) and task.startswith("keyhole.") and task in self.strategies

    def connection_for_read(self, heartbeat: int | None = None) -> Any:  # noqa: ANN401 - as above
        """Connect to the broker, with short timeouts: the event loop waits for its answers."""
        options = with_timeout(self.app.conf.broker_transport_options, LOOP_SECONDS)
        connection = self.ensure_connected(
            self.app.connection_for_read(heartbeat=heartbeat, transport_options=options)
        )
        if connection.transport.driver_type == "amqp":
            note_types(connection, self.app.amqp.queues.consume_from.values())
        return connection

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Connect again. If Redis refuses writes, wait for a while, because its refusals come at once."""
        # The event loop may have waited for an answer, and waits again while channels close.
        HEARTBEAT.beat()
        with warnings.catch_warnings():
            # About a setting that `keyhole.app` sets on purpose (cancelling running tasks).
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        if isinstance(exc, redis.ResponseError):
            for _ in range(LONGEST_PAUSE):
                HEARTBEAT.beat()
                state.maybe_shutdown()
                time.sleep(1)

    def on_close(self) -> None:
        """Send heartbeats before and after the connection is closed, which may take long."""
        HEARTBEAT.beat()
        # kombu forgets the loop when the loop stops. It runs again later, and lost tasks are sent through it.
        set_event_loop(self.hub)
        super().on_close()
        HEARTBEAT.beat()

    def ensure_connected(self, conn: Any) -> Any:  # noqa: ANN401 - as above
        """Connect to the broker. Send heartbeats meanwhile, because the event loop stands still."""

        def ensure(on_error: Handler, retries: int | None, callback: Callable[[], None]) -> Any:  # noqa: ANN401
            def between_attempts() -> None:
                HEARTBEAT.beat()
                callback()

            return attempt(on_error, retries, interval_max=LONGEST_PAUSE, callback=between_attempts)

        HEARTBEAT.beat()
        attempt, conn.ensure_connection = conn.ensure_connection, ensure
        return super().ensure_connected(conn)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002 - Celery's
        """Refuse a message with an invalid task."""
        self.refuse(message, f"its task is invalid: {exc}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401 - Celery's
        """Refuse a message that cannot be decoded."""
        self.refuse(message, why_invalid(message.headers, message.body) or f"it cannot be decoded: {exc}")

    def refuse(self, message: Any, reason: str) -> None:  # noqa: ANN401 - as above
        """Make a dead letter of a message, and acknowledge it."""
        refused = Refused(
            queue=_queue(message),
            body=_body(message),
            headers=message.headers if isinstance(message.headers, dict) else {},
            properties={"content_type": message.content_type, "content_encoding": message.content_encoding},
        )
        log.error("a message of %s is a dead letter: %s", refused.queue, reason)
        self._keep(message, refused, reason)

    def _keep(self, message: Any, refused: Refused, reason: str) -> None:  # noqa: ANN401 - as above
        """Write the dead letter, now or later. Celery clears the timer when the connection closes."""
        try:
            keep(services().dead_letters, refused, reason)
        except redis.RedisError:
            log.exception("the dead letter was not written; it is tried again in %g s", KEEP_PAUSE)
            self.timer.call_after(KEEP_PAUSE, self._keep, (message, refused, reason))
            return
        message.ack()


def note_types(connection: Any, queues: Iterable[Any]) -> None:  # noqa: ANN401 - kombu has no types
    """Find out which queues are quorum queues, because Celery must set their prefetch count in another way.

    A virtual host may make every declared queue a quorum queue (`default_queue_type`). RabbitMQ reveals the
    type of a queue only if it is declared again with another type.
    """
    for queue in queues:
        queue.queue_arguments = None
        with closing(connection.channel()) as channel:
            queue.bind(channel).queue_declare()
            try:
                channel.queue_declare(queue.name, durable=queue.durable, arguments=QUORUM, auto_delete=False)
            except amqp.PreconditionFailed:
                continue
        queue.queue_arguments = QUORUM


def _not_signed(message: Any) -> str | None:  # noqa: ANN401 - kombu has no types
    here = services()
    return why_refused(
        _queue(message),
        message.headers,
        _body(message),
        remembered=here.settings.done_seconds,
        is_open=here.ledger.is_open,
    )


def _queue(message: Any) -> str:  # noqa: ANN401 - kombu has no types
    return str((message.delivery_info or {}).get("routing_key", ""))


def _body(message: Any) -> bytes:  # noqa: ANN401 - kombu has no types
    body = message.body
    return body.encode(errors="surrogatepass") if isinstance(body, str) else bytes(body or b"")
