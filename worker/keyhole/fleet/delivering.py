"""Sends events to the sinks in separate threads, so that scans do not wait for the sinks.

Each pool process of a worker has one thread for each sink. Once a second, the thread takes due events from
Redis, and sends them with `THREADS` further threads. A sink that answers slowly or not at all therefore
delays neither a scan nor another sink. Every request has a time limit (`results.sinks`).

An event that cannot be sent is sent again after a growing delay (`jobs.deliveries`). It becomes a dead letter
if the receiver refuses it for good, or if it could not be sent for `retry_seconds` seconds.

A process that ends, even in the middle of a request, loses no event: the debt stays in Redis, and another
process sends the event.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import redis

from keyhole.fleet.services import Services
from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.jobs.debts import Hold
from keyhole.jobs.deliveries import Deliveries
from keyhole.metrics.recorder import Outcome, recorder
from keyhole.results.sinks.delivery import DeliveryError, Sink
from keyhole.results.sinks.event import Event
from keyhole.settings import Settings
from keyhole.tracing.tracer import tracer

log = logging.getLogger(__name__)

#: How many events a process sends to one sink at the same time.
THREADS: Final = 2
#: Seconds between two checks for due events.
POLL_SECONDS: Final = 1.0
#: The maximum number of events that a thread takes from Redis at once, and the number of seconds within which
#: the thread begins to send them. Other processes can take these events again after 120 seconds.
PAGE, PAGE_SECONDS = 20, 60.0
#: If all events of a page failed, or Redis failed, the thread waits this many seconds.
PAUSE_SECONDS: Final = 5.0
#: Seconds for which a process that ends waits for its threads.
LAST_SECONDS: Final = 3.0


def open_sinks(settings: Settings) -> dict[str, Sink]:
    """Return the sinks that the settings name. A sink connects only when it sends an event."""
    return {name: open_sink(name, settings) for name in settings.event_sinks}


def open_sink(name: str, settings: Settings) -> Sink:
    """Return the sink with this name."""
    # Import boto3 and urllib3 only if a sink needs them.
    if name == "webhook":
        from keyhole.results.sinks.webhook import Webhook  # noqa: PLC0415 - see above
        from keyhole.sources.trust import choose_trust  # noqa: PLC0415 - see above

        secret = settings.webhook_secret
        return Webhook(
            str(settings.webhook_url),
            "" if secret is None else secret.get_secret_value(),
            private=settings.webhook_private,
            certificates=str(choose_trust(os.environ.get("AWS_CA_BUNDLE"), os.environ).bundle),
        )
    from keyhole.results.sinks import aws  # noqa: PLC0415 - see above

    if name == "sns":
        return aws.SnsTopic(str(settings.sns_topic))
    if name == "eventbridge":
        return aws.EventBridgeBus(str(settings.eventbridge_bus), region=settings.s3_region)
    return aws.SqsQueue(str(settings.sqs_queue), region=settings.s3_region)


@dataclass(frozen=True)
class SinkWork:
    """Sends the events that are owed to one sink.

    Args:
        name: The name of the sink.
        sink: The sink.
        deliveries: The events that are owed to the sink.
        dead_letters: Stores the events that cannot be sent as dead letters.
        retry_seconds: Seconds for which Keyhole tries to send an event.
    """

    name: str
    sink: Sink
    deliveries: Deliveries
    dead_letters: DeadLetters
    retry_seconds: float

    def send_due(self) -> list[Outcome]:
        """Send up to `PAGE` events that are due, and return the outcome of each attempt."""
        due = self.deliveries.take_due(PAGE)
        if not due:
            return []
        until = time.monotonic() + PAGE_SECONDS

        def send(event_id: str) -> Outcome | None:
            # After `PAGE_SECONDS`, skip the remaining events. They become due again later.
            return self._send(event_id) if time.monotonic() < until else None

        with ThreadPoolExecutor(THREADS, thread_name_prefix=f"sink-{self.name}") as pool:
            return [outcome for outcome in pool.map(send, due) if outcome is not None]

    def _send(self, event_id: str) -> Outcome | None:
        try:
            hold = self.deliveries.hold_recorded(event_id)
            if hold is None:
                return None
            began = time.time_ns()
            outcome = self._attempt(hold)
            if tracer().traces:
                failure = None if outcome is Outcome.DELIVERED else outcome.value
                tracer().notified(str(hold.debt.data.get("job")), self.name, began, failure)
        except redis.RedisError:
            raise
        except Exception:
            # An error with one event, such as an event in the format of a later version, must not stop the
            # other events.
            log.exception("event %s could not be sent to %s", event_id, self.name)
            return Outcome.FAILED
        recorder().delivered(self.name, outcome)
        return outcome

    def _attempt(self, hold: Hold[Event]) -> Outcome:
        try:
            self.sink.send(hold.debt)
        except DeliveryError as error:
            return self._let_go(hold, error)
        except Exception as error:
            log.exception("event %s could not be sent to %s", hold.debt.id, self.name)
            text = f"{type(error).__name__}: {error}"
            return self._let_go(hold, DeliveryError("internal_error", text))
        self.deliveries.settle(hold)
        return Outcome.DELIVERED

    def _let_go(self, hold: Hold[Event], error: DeliveryError) -> Outcome:
        event = hold.debt
        if not error.is_final and hold.owed_for < self.retry_seconds:
            log.info("event %s could not be sent to %s yet: %s", event.id, self.name, error)
            self.deliveries.postpone(hold, error.reason, str(error), at_least=error.retry_after)
            return Outcome.FAILED
        (owed,) = self.deliveries.owed_by_id([event.id])
        history = f" {owed.history}." if owed is not None and owed.times else ""
        log.error("Keyhole gives up sending event %s to %s: %s", event.id, self.name, error)
        self.dead_letters.add(Dead.event(self.name, event, f"{error}.{history}"))
        self.deliveries.give_up(hold)
        return Outcome.DEAD


class Deliverer:
    """Sends events in threads of this process. Create it after the fork.

    Args:
        services: The services of this process.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start a thread for each sink."""
        for name, sink in open_sinks(self._services.settings).items():
            work = self.work(name, sink)
            thread = threading.Thread(target=self._run, args=(work,), name=f"sink-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let the threads send the events that are due now, and wait for them for up to `LAST_SECONDS`."""
        self._stop.set()
        until = time.monotonic() + LAST_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def work(self, name: str, sink: Sink) -> SinkWork:
        """Return the work for one sink."""
        services = self._services
        return SinkWork(
            name,
            sink,
            Deliveries(services.redis, name),
            services.dead_letters,
            services.settings.undecided_seconds,
        )

    def _run(self, work: SinkWork) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.is_set()
            pause = POLL_SECONDS
            try:
                outcomes = work.send_due()
            except Exception as error:  # noqa: BLE001 - the thread must go on, whatever happened
                log.warning("events for %s could not be read: %s", work.name, error)
                pause = PAUSE_SECONDS
            else:
                if outcomes:
                    pause = 0 if Outcome.DELIVERED in outcomes else PAUSE_SECONDS
            self._stop.wait(pause)


def owed(services: Services) -> Mapping[str, int]:
    """Return the number of events that are owed to each configured sink."""
    return {name: Deliveries(services.redis, name).count() for name in services.settings.event_sinks}
