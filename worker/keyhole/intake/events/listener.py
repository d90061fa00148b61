"""The listener: receives messages, passes them to the handler, and acknowledges them or gives them back.

If the queue, Redis or the broker does not respond, the listener acknowledges no message and returns the
received messages to the queue. The listener tries again after a pause, and the pause grows until the service
responds. If the listener cannot write its counters to Redis, it keeps them in memory and receives no further
messages until it has written them. Otherwise, during an outage of Redis, it would receive the same messages
again and again, and increase their receive counts.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import redis

from keyhole.intake.events.counters import EventCounters
from keyhole.intake.events.handling import Handler
from keyhole.intake.events.source import Message, MessageSource, SourceUnavailableError
from keyhole.jobs.publisher import DeliveryUncertainError

log = logging.getLogger(__name__)

#: The maximum number of messages in one receive, which is SQS's limit.
BATCH: Final = 10
#: Seconds to wait for a message. If a listener must stop, it stops after at most this time. SQS charges for
#: every receive. With one receive per interval, this costs less than two cents per day.
WAIT_SECONDS: Final = 2.0
#: Seconds to wait for a message if the listener ends when the queue is empty (`until_empty`). SQS searches
#: all of its servers only if the request has a wait time. Without a wait time, a response can be empty
#: although the queue has messages.
LAST_WAIT_SECONDS: Final = 1.0
#: The first and the longest pause, in seconds, while a service does not respond.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Seconds between two log messages during an outage.
COMPLAINT_SECONDS: Final = 60.0

#: The errors that are raised if a service does not respond. They may be temporary.
TROUBLE: Final = (SourceUnavailableError, DeliveryUncertainError, redis.RedisError)


@dataclass(frozen=True, slots=True)
class Poll:
    """The result of one poll: counts by name, or one line that describes the outage."""

    counts: Mapping[str, int] = field(default_factory=dict)
    trouble: str | None = None


class Listener:
    """Listens to one source. Each thread needs its own listener; the listeners can share a handler.

    Args:
        source: The source of messages. The listener closes the source when it stops.
        handler: Handles the messages.
        counts: The counters, which all listeners share.
    """

    def __init__(self, source: MessageSource, handler: Handler, counts: EventCounters) -> None:
        self._source = source
        self._handler = handler
        self._counts = counts
        self._uncounted = Counter[str]()
        self._failures = 0
        self._complained_at: float | None = None

    def run(
        self, stop: threading.Event, on_poll: Callable[[Poll], None], *, until_empty: bool = False
    ) -> None:
        """Listen until `stop` is set.

        Then finish the current batch, and give back all messages that arrive afterwards.

        Args:
            stop: The caller sets this event to stop the listener.
            on_poll: A function that is called after each poll, even if the poll returned no message.
            until_empty: End after the first poll without a message. If a service does not respond, raise the
                error instead of trying again.

        Raises:
            SourceUnavailableError, DeliveryUncertainError, redis.RedisError: A service does not respond, and
            `until_empty` is set.
        """
        try:
            while not stop.is_set():
                try:
                    received = self._poll(stop, on_poll, LAST_WAIT_SECONDS if until_empty else WAIT_SECONDS)
                except TROUBLE as error:
                    if until_empty:
                        raise
                    self._wait(stop, error, on_poll)
                    continue
                self._recovered()
                if until_empty and not received:
                    return
        finally:
            self._source.close()

    def _poll(self, stop: threading.Event, on_poll: Callable[[Poll], None], wait_seconds: float) -> int:
        """Poll once, handle the messages, and return their number."""
        self._count()
        messages = self._source.receive(BATCH, wait_seconds)
        if stop.is_set():
            self._source.give_back(messages)
            return 0
        counts = self._handle(messages) if messages else Counter[str]()
        on_poll(Poll(counts))
        return len(messages)

    def _handle(self, messages: Sequence[Message]) -> Counter[str]:
        try:
            handled = self._handler.handle(messages, self._source.name)
        except TROUBLE:
            with suppress(SourceUnavailableError):
                self._source.give_back(messages)
            raise
        self._uncounted += handled.counts
        self._source.acknowledge(handled.taken)
        self._source.give_back(handled.back)
        self._count()
        return handled.counts

    def _count(self) -> None:
        if self._uncounted:
            self._counts.add(self._uncounted)
            self._uncounted = Counter()

    def _wait(self, stop: threading.Event, error: Exception, on_poll: Callable[[Poll], None]) -> None:
        """Log the error once a minute, and pause.

        The pause grows with each failure, and is varied randomly (jitter).
        """
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, redis.RedisError):
            line = f"Redis does not respond ({line})"
        now = time.monotonic()
        if self._complained_at is None or now >= self._complained_at + COMPLAINT_SECONDS:
            self._complained_at = now
            log.warning("the listener handles no messages at present, and keeps trying: %s", line)
        on_poll(Poll(trouble=line))
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        stop.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter, not cryptography

    def _recovered(self) -> None:
        if self._failures:
            log.warning("the listener handles messages again")
        self._failures = 0
        self._complained_at = None
