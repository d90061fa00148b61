"""Turns on the traces of a worker, a listener or a command, if `KEYHOLE_TRACES` is set."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from celery.signals import before_task_publish

from keyhole import __version__
from keyhole.errors import KeyholeError
from keyhole.fleet.broker import is_amqp
from keyhole.jobs.message_age import SENT_AT
from keyhole.settings import Settings
from keyhole.suggestions import how_to_install
from keyhole.tracing.tracer import TRACED, Tracer, tracer, use_tracer

if TYPE_CHECKING:
    from keyhole.tracing.spans import SpanTracer

#: Seconds for which a process that ends waits until its spans are sent.
LAST_SECONDS: Final = 3.0

#: Starts the tracer; `None` if traces are off.
_start: "Callable[[], SpanTracer] | None" = None


class OpenTelemetryMissingError(KeyholeError):
    """OpenTelemetry is not installed."""

    is_usage = True


@contextmanager
def traced(settings: Settings, role: str, *, forks: bool = False) -> Iterator[None]:
    """Make traces during the `with` block, if `KEYHOLE_TRACES` is set.

    Args:
        settings: The settings, which name a Redis.
        role: The role of this process, for example `worker`.
        forks: Whether this process is a worker, so that only its pool processes make spans. Each of them must
            call `begin`, because a thread sends the spans, and a fork copies no threads.

    Raises:
        KeyholeError: OpenTelemetry is not installed, or its variables are wrong.
    """
    global _start  # noqa: PLW0603 - each process needs exactly one
    if not settings.traces:
        yield
        return
    exporter = export()
    exporter.check(os.environ)
    system = "rabbitmq" if is_amqp(settings.broker_url or settings.redis_url) else "redis"
    _start = partial(exporter.start, role, version=__version__, system=system, sent_at=SENT_AT)
    before_task_publish.connect(_note_traced, weak=False)
    try:
        if not forks:
            begin()
        yield
    finally:
        end()
        _start = None
        before_task_publish.disconnect(_note_traced)


def export() -> ModuleType:
    """Return the module `keyhole.tracing.export`. Call this only if traces are on: it imports OpenTelemetry.

    Raises:
        OpenTelemetryMissingError: OpenTelemetry, or a part of it, is not installed.
    """
    try:
        return import_module("keyhole.tracing.export")
    except ModuleNotFoundError as error:
        raise OpenTelemetryMissingError(
            f"KEYHOLE_TRACES is set, but OpenTelemetry is not installed; run {how_to_install('otel')}"
        ) from error


def begin() -> None:
    """Let this process make spans, if traces are on. Call this after the fork and after the confinement."""
    if _start is not None:
        use_tracer(_start())


def end() -> None:
    """Send the spans of this process that wait, and make no more."""
    running = tracer()
    use_tracer(Tracer())
    if running.traces:
        running.stop(LAST_SECONDS)


def _note_traced(headers: dict[str, Any], **_: object) -> None:
    """Note in a message's headers that this process made the first spans of its jobs."""
    headers[TRACED] = True
