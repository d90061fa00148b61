"""The listener: receives messages, has them handled, acknowledges handled ones and gives the others back.

If the queue, Redis or the broker does not answer, the listener acknowledges nothing, gives back what it
received, and tries again after a growing pause, forever. Counts that cannot be written are kept, and nothing
is received before they are written, because a queue may count receives against a message.
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

#: Messages of one receive: the most that SQS returns.
BATCH: Final = 10
#: Seconds to wait for a message, after which a stopped listener ends. SQS charges for every receive: at
#: this pace less than two cents a day.
WAIT_SECONDS: Final = 2.0
#: The same for `until_empty`: long enough for SQS to ask all of its servers.
LAST_WAIT_SECONDS: Final = 1.0
#: The first and the longest pause in seconds if a service does not answer.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Seconds between two log messages about the same trouble.
COMPLAINT_SECONDS: Final = 60.0

#: Errors of services that do not answer for a time.
TROUBLE: Final = (SourceUnavailableError, DeliveryUncertainError, redis.RedisError)


@dataclass(frozen=True, slots=True)
class Poll:
    """The outcome of one poll: counts by name, or one line about what does not answer."""

    counts: Mapping[str, int] = field(default_factory=dict)
    trouble: str | None = None


class Listener:
    """Listens to one source. Each thread has a listener of its own; they may share a handler.

    Args:
        source: The source of messages, which is closed when the listener ends.
        handler: Handles the messages.
        counts: The counters of all listeners.
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
        """Listen until told to stop, then finish the batch, and give back unhandled messages.

        Args:
            stop: Tells to stop.
            on_poll: Called after each turn, also one in which no message came.
            until_empty: End when no message comes, or with the error when a service does not answer.

        Raises:
            SourceUnavailableError, DeliveryUncertainError, redis.RedisError: Only with `until_empty`.
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
        """One turn; returns how many messages came."""
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
        """Log now and then what does not answer, and pause, longer each time and with jitter."""
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, redis.RedisError):
            line = f"Redis does not answer ({line})"
        now = time.monotonic()
        if self._complained_at is None or now >= self._complained_at + COMPLAINT_SECONDS:
            self._complained_at = now
            log.warning("no messages are handled; the listener keeps trying: %s", line)
        on_poll(Poll(trouble=line))
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        stop.wait(pause * random.uniform(0.5, 1))  # noqa: S311 - it spreads requests, it hides nothing

    def _recovered(self) -> None:
        if self._failures:
            log.warning("messages are handled again")
        self._failures = 0
        self._complained_at = None
