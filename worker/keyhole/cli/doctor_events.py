"""The doctor's check that the event queue exists and can be read. The check receives no message."""

from collections.abc import Iterator
from contextlib import closing

from keyhole.cli.doctor_check import ANSWER_SECONDS
from keyhole.cli.findings import ADVICE, BAD, GOOD, Finding
from keyhole.cli.other_end import other_end
from keyhole.intake.events.open_source import open_source
from keyhole.intake.events.source import LookDeniedError, SourceUnavailableError
from keyhole.masking import masked_url
from keyhole.settings import Settings


def of_events(settings: Settings) -> Iterator[Finding]:
    """Yield findings on the queue of KEYHOLE_EVENTS_URL."""
    url = settings.events_url
    if url is None:
        yield Finding("events", GOOD, "no queue; set KEYHOLE_EVENTS_URL to use `keyhole listen`")
        return
    try:
        source = open_source(
            url, listener_id="doctor", region=settings.s3_region, answer_seconds=ANSWER_SECONDS
        )
    except ValueError as error:
        yield Finding("events", BAD, f"KEYHOLE_EVENTS_URL is wrong: {error}")
        return
    with closing(source):
        try:
            there = source.look()
        except LookDeniedError as error:
            yield Finding("events", ADVICE, str(error))
        except SourceUnavailableError as error:
            yield Finding("events", BAD, f"{error}{other_end(url)}; check KEYHOLE_EVENTS_URL")
        else:
            listens = "`keyhole listen --check` says whether a listener runs here"
            yield Finding("events", GOOD, f"{masked_url(url)}: {there}; {listens}")
