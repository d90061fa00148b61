"""A consumer of a queue in Redis, through Keyhole's transport."""

from contextlib import suppress
from typing import Any

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer

from keyhole.jobs.queues import JOBS
from tests.e2e.commands import PATIENCE, until

PREFIX = "keyhole:broker:"
QUEUE, UNACKED, UNACKED_SINCE = PREFIX + JOBS, PREFIX + "unacked", PREFIX + "unacked_index"


class Desk:
    """A consumer of one queue."""

    def __init__(self, url: str) -> None:
        self.connection = Connection(
            url,
            transport="keyhole.fleet.redis_transport:Transport",
            transport_options={
                "global_keyprefix": PREFIX,
                "visibility_timeout": 60,
                # Much longer than any test takes, so that a wait for Redis is seen.
                "socket_timeout": PATIENCE,
            },
        )
        self.channel: Any = self.connection.channel()
        self.queue = Queue(JOBS, Exchange(JOBS), routing_key=JOBS)(self.channel)
        self.taken: list[Any] = []
        self._consumer = Consumer(self.channel, [self.queue], on_message=self.taken.append, auto_declare=True)
        self._consumer.consume()

    def publish(self) -> None:
        """Put a message into the queue."""
        self.connection.Producer(self.channel).publish({"a": 1}, exchange=JOBS, routing_key=JOBS)

    def take(self) -> Any:
        """Take the next message from the queue."""
        before = len(self.taken)

        def taken() -> bool:
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=0.2)
            return len(self.taken) > before

        until(taken)
        return self.taken[-1]
