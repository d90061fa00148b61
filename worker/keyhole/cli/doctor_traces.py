"""The doctor's check that the collector accepts traces. The check sends a request without spans."""

import os
from collections.abc import Iterator

from keyhole.cli.doctor_check import ANSWER_SECONDS, one_line
from keyhole.cli.findings import BAD, GOOD, Finding
from keyhole.errors import KeyholeError
from keyhole.masking import masked_url


def of_traces() -> Iterator[Finding]:
    """Yield a finding on whether traces can be sent."""
    from keyhole.fleet.traces import export

    try:
        exporter = export()
        exporter.check(os.environ)
    except KeyholeError as error:
        yield Finding("traces", BAD, one_line(error))
        return
    place = masked_url(exporter.endpoint(os.environ))
    why = exporter.why_refused(ANSWER_SECONDS)
    if why is None:
        yield Finding("traces", GOOD, f"{place} accepts traces")
    else:
        told = f"{place} does not accept traces: {why}; check the variables OTEL_EXPORTER_OTLP_…"
        yield Finding("traces", BAD, told)
