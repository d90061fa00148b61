"""The doctor's checks of the sinks that receive events. The checks send no event."""

from collections.abc import Iterator

from keyhole.cli.doctor_check import one_line
from keyhole.cli.findings import ADVICE, BAD, GOOD, Finding
from keyhole.fleet.delivering import open_sink, owed
from keyhole.fleet.services import Services
from keyhole.results.sinks.delivery import DeliveryError
from keyhole.settings import Settings


def of_choice(settings: Settings) -> Iterator[Finding]:
    """Yield a finding on where verdicts go."""
    chosen = ", ".join(settings.sinks)
    if "redis" not in settings.sinks:
        told = f"verdicts go only to {chosen}; `keyhole results` and --wait also need redis"
        yield Finding("sinks", ADVICE, told)
    elif settings.sinks == ("redis",):
        told = "verdicts go to Redis; set KEYHOLE_SINKS=redis,tags to write object tags as well"
        yield Finding("sinks", GOOD, told)
    else:
        yield Finding("sinks", GOOD, f"verdicts go to {chosen}")


def of_sink(settings: Settings, name: str) -> Iterator[Finding]:
    """Yield a finding on whether events can be sent to a sink.

    The check sends no event, so it cannot find every problem.
    """
    statuses = ", ".join(settings.notify_statuses)
    try:
        told = open_sink(name, settings).check()
    except DeliveryError as error:
        yield Finding(f"sink {name}", ADVICE if error.reason == "unchecked" else BAD, one_line(error))
    else:
        yield Finding(f"sink {name}", GOOD, f"{told}; it receives the statuses {statuses}")


def of_owed(services: Services) -> Iterator[Finding]:
    """Yield a finding for each sink to which events must still be sent."""
    for name, count in owed(services).items():
        if count:
            told = f"{count:,} event{'' if count == 1 else 's'} not sent to {name} yet; workers will retry"
            yield Finding("events owed", ADVICE, told)
