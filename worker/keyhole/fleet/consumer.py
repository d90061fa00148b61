"""The worker's consumer, which stores each message that no task can process as a dead letter.

Celery itself would drop a message that names an unknown task or that it cannot decode. This consumer checks
each message before Celery decodes or decompresses it. If signing keys are configured, it also refuses
messages without a valid signature. It stores a refused message as a dead letter, and then acknowledges the
message.

If Redis does not store the dead letter, the message stays unacknowledged, and the worker tries again after a
pause. The worker does not return the message to its queue, because a quorum queue of RabbitMQ 4 by default
drops a message after 20 returns. If the connection closes or the worker ends, the broker delivers the message
again.
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

#: A worker decompresses no messages. Keyhole never compresses its messages, and decompressing a hostile
#: message of 816 KB took 1.3 GB of memory. This line does not affect programs that submit jobs, because only
#: workers import this module.
kombu.compression._decoders.clear()  # noqa: SLF001 - kombu has no function that removes a decoder

#: The longest pause in seconds between two attempts to connect to a broker.
LONGEST_PAUSE: Final = 4

#: If Redis fails while the worker stores a dead letter, or while it finds out whether a message is a replay,
#: the worker tries again after this many seconds.
KEEP_PAUSE: Final = 5.0

#: The arguments that declare a quorum queue.
QUORUM: Final = {"x-queue-type": "quorum"}

Handler = Callable[[Any], None]

#: Everybody who can write to the broker can send remote-control commands to the workers, such as shutdown,
#: revoke or pool restart. So workers accept only `ping`, which `keyhole doctor` uses.
for _command in Panel.data.keys() - {"ping"}:
    del Panel.data[_command]

_UNKNOWN_TASK: Final = "it is for the task {!r}, which this version of Keyhole does not have"


class Consumer(consumer.Consumer):  # type: ignore[misc] # Celery has no types
    """Celery's consumer, extended: it makes dead letters of the messages that it refuses."""

    def create_task_handler(self, *args: Any, **options: Any) -> Handler:  # noqa: ANN401 - Celery has no types
        """Return the function that Celery calls with every message."""
        handle: Handler = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:  # noqa: ANN401 - kombu has no types
            wrong = why_invalid(message.headers, message.body)
            # Keyhole does not use Celery's built-in tasks, so refuse messages for them, too.
            if wrong is None and not self._is_ours(message.headers["task"]):
                wrong = _UNKNOWN_TASK.format(message.headers["task"])
            if wrong is None:
                try:
                    wrong = _not_signed(message)
                except redis.RedisError:
                    log.exception(
                        "Redis did not answer whether a message is a replay; the worker asks again in %g s",
                        KEEP_PAUSE,
                    )
                    self.timer.call_after(KEEP_PAUSE, on_message, (message,))
                    return
            if wrong is None:
                # Ignore time limits in the message: the sender must not set them.
                message.headers.pop("timelimit", None)
                handle(message)
            else:
                self.refuse(message, wrong)

        return on_message

    def _is_ours(self, task: object) -> bool:
        return isinstance(task, str) and task.startswith("keyhole.") and task in self.strategies

    def connection_for_read(self, heartbeat: int | None = None) -> Any:  # noqa: ANN401 - as above
        """Connect to the broker.

        The timeouts are short, because the worker's event loop is blocked until this method returns.
        """
        options = with_timeout(self.app.conf.broker_transport_options, LOOP_SECONDS)
        connection = self.ensure_connected(
            self.app.connection_for_read(heartbeat=heartbeat, transport_options=options)
        )
        if connection.transport.driver_type == "amqp":
            note_types(connection, self.app.amqp.queues.consume_from.values())
        return connection

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Connect again after a connection error.

        If Redis refuses writes, wait for a few seconds first. Redis refuses immediately, so the worker would
        otherwise connect again and again without a pause.
        """
        # A wait for the broker may just have blocked the event loop, and Celery now blocks it again to close
        # the channels. So send a heartbeat here.
        HEARTBEAT.beat()
        with warnings.catch_warnings():
            # Celery warns here that a later version will cancel running tasks by default. The warning does
            # not apply, because `keyhole.app` sets explicitly that tasks continue.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        if isinstance(exc, redis.ResponseError):
            for _ in range(LONGEST_PAUSE):
                HEARTBEAT.beat()
                state.maybe_shutdown()
                time.sleep(1)

    def on_close(self) -> None:
        """Close the connection. Closing can take long, so send a heartbeat before and after it."""
        HEARTBEAT.beat()
        # kombu unsets its global event loop when the loop stops. Set it again: the loop will run again, and
        # `keyhole.fleet.worker_lost` needs it.
        set_event_loop(self.hub)
        super().on_close()
        HEARTBEAT.beat()

    def ensure_connected(self, conn: Any) -> Any:  # noqa: ANN401 - as above
        """Connect to the broker. Send heartbeats between attempts, because the event loop is blocked."""

        def ensure(on_error: Handler, retries: int | None, callback: Callable[[], None]) -> Any:  # noqa: ANN401
            def between_attempts() -> None:
                HEARTBEAT.beat()
                callback()

            return attempt(on_error, retries, interval_max=LONGEST_PAUSE, callback=between_attempts)

        HEARTBEAT.beat()
        attempt, conn.ensure_connection = conn.ensure_connection, ensure
        return super().ensure_connected(conn)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002 - Celery's signature
        """Refuse a message whose task Celery finds invalid."""
        self.refuse(message, f"its task is invalid: {exc}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401 - Celery has no types
        """Refuse a message that Celery cannot decode."""
        self.refuse(message, why_invalid(message.headers, message.body) or f"it cannot be decoded: {exc}")

    def refuse(self, message: Any, reason: str) -> None:  # noqa: ANN401 - as above
        """Store a message as a dead letter, and acknowledge the message."""
        refused = Refused(
            queue=_queue(message),
            body=_body(message),
            headers=message.headers if isinstance(message.headers, dict) else {},
            properties={"content_type": message.content_type, "content_encoding": message.content_encoding},
        )
        log.error("a message of queue %s becomes a dead letter: %s", refused.queue, reason)
        self._keep(message, refused, reason)

    def _keep(self, message: Any, refused: Refused, reason: str) -> None:  # noqa: ANN401 - as above
        """Store a dead letter and acknowledge its message. If Redis fails, try again later.

        If the connection closes before the next attempt, Celery clears the timer, and the broker delivers the
        message again.
        """
        try:
            keep(services().dead_letters, refused, reason)
        except redis.RedisError:
            log.exception("the dead letter could not be stored; the worker tries again in %g s", KEEP_PAUSE)
            self.timer.call_after(KEEP_PAUSE, self._keep, (message, refused, reason))
            return
        message.ack()


def note_types(connection: Any, queues: Iterable[Any]) -> None:  # noqa: ANN401 - kombu has no types
    """Find out which queues are quorum queues, and set their arguments accordingly.

    Quorum queues do not support global QoS. So Celery must know which queues are quorum queues, and set the
    prefetch count without global QoS. A virtual host can turn every queue into a quorum queue
    (`default_queue_type`). An AMQP client cannot ask for the type of a queue. So this function declares each
    queue, and declares it a second time as a quorum queue. RabbitMQ refuses the second declaration if the
    queue has another type.
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
