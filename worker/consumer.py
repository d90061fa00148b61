"""The consumer of a worker: what it cannot work on is kept as a dead letter, and then acknowledged.

Celery drops what it does not understand: messages that name no task it knows, or whose bodies it cannot
decode. Here each is looked at before anything in it is decoded or decompressed. Where the dead letter cannot
be written, the message is not acknowledged, so the broker delivers it again.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

import kombu.compression
import redis
from celery.worker import consumer

from worker.intake.refused import Refused, keep, wrong_with
from worker.loop_watch import SIGN
from worker.services import services

log = logging.getLogger(__name__)

#: Nothing that arrives is decompressed: 816 KB of gzip took 1.3 GB. Keyhole sends nothing compressed. Only a
#: worker imports this module, so programs that submit jobs keep their decoders.
kombu.compression._decoders.clear()  # noqa: SLF001 - kombu can register decoders, and not remove them

#: Seconds between two attempts to connect to a broker that is away, at most.
LONGEST_PAUSE: Final = 4

Handler = Callable[[Any], None]
_UNKNOWN_TASK: Final = "it names the task {!r}, which this version does not know"


class Consumer(consumer.Consumer):  # type: ignore[misc] # Celery has no types
    """Celery's consumer, which keeps what it refuses."""

    def create_task_handler(self, *args: Any, **options: Any) -> Handler:  # noqa: ANN401 - Celery's
        """What is called with every message."""
        handle: Handler = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> None:  # noqa: ANN401 - kombu has no types
            wrong = wrong_with(message.headers, message.body)
            if wrong is None and message.headers["task"] not in self.strategies:
                wrong = _UNKNOWN_TASK.format(message.headers["task"])
            if wrong is None:
                handle(message)
            else:
                refuse(message, wrong)

        return on_message

    def ensure_connected(self, conn: Any) -> Any:  # noqa: ANN401 - as above
        """Connect to the broker. The event loop does not turn while it is away; signs of life are given."""

        def ensure(on_error: Handler, retries: int | None, callback: Callable[[], None]) -> Any:  # noqa: ANN401
            def between_attempts() -> None:
                SIGN.give()
                callback()

            return attempt(on_error, retries, interval_max=LONGEST_PAUSE, callback=between_attempts)

        attempt, conn.ensure_connection = conn.ensure_connection, ensure
        return super().ensure_connected(conn)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:  # noqa: ANN401, ARG002 - Celery's
        """A message whose task cannot be made of it."""
        refuse(message, f"its task is invalid: {exc}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:  # noqa: ANN401 - Celery's
        """A message that cannot be decoded."""
        refuse(message, wrong_with(message.headers, message.body) or f"it cannot be decoded: {exc}")


def refuse(message: Any, reason: str) -> None:  # noqa: ANN401 - kombu has no types
    """Keep a message as a dead letter, and acknowledge it."""
    body = message.body
    refused = Refused(
        queue=str((message.delivery_info or {}).get("routing_key", "")),
        body=body.encode(errors="surrogatepass") if isinstance(body, str) else bytes(body or b""),
        headers=message.headers if isinstance(message.headers, dict) else {},
        properties={"content_type": message.content_type, "content_encoding": message.content_encoding},
    )
    log.error("a message of %s is a dead letter: %s", refused.queue, reason)
    try:
        keep(services().dead_letters, refused, reason)
    except redis.RedisError:
        log.exception("the dead letter was not written; the broker will deliver the message again")
        return
    message.ack()
