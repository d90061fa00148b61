"""The table of all metrics: their names, types, labels and meanings.

The reference (`keyhole docs metrics`) contains the same table. The set of values of each label is bounded,
and no name from a message is a value. `bucket` has one value for each bucket with a running audit, up to
`store_reader.MOST_AUDITS`.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    """The type of a metric, by the name that Prometheus uses."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One metric. `help` is the text on the page of metrics. `labels` are the names of its labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


VERDICTS: Final = Metric(
    "keyhole_verdicts_total",
    Kind.COUNTER,
    "Recorded verdicts, by status and format; format is none if no format was recognised.",
    ("status", "format"),
)
QUEUE_WAIT: Final = Metric(
    "keyhole_queue_wait_seconds",
    Kind.HISTOGRAM,
    "Seconds from the publication of a message until a worker process began to work on it.",
)
SCAN: Final = Metric(
    "keyhole_scan_seconds",
    Kind.HISTOGRAM,
    "Seconds per attempt at an object in one phase: s3 (waiting for S3), inspection (the rest of the scan) "
    "or recording (writing the verdict).",
    ("phase",),
)
S3_REQUESTS: Final = Metric(
    "keyhole_s3_requests_total",
    Kind.COUNTER,
    "Requests to S3 that scans, tags and audits made, including retries.",
)
S3_BYTES: Final = Metric(
    "keyhole_s3_received_bytes_total", Kind.COUNTER, "Bytes of objects that scans received from S3."
)
S3_ERRORS: Final = Metric(
    "keyhole_s3_errors_total",
    Kind.COUNTER,
    "Failed requests to S3 of scans, tags and audits, by Keyhole's reason code, for example slow_down.",
    ("code",),
)
S3_RETRIES: Final = Metric(
    "keyhole_s3_retries_total", Kind.COUNTER, "Requests of scans that were repeated after a failure."
)
S3_COST: Final = Metric(
    "keyhole_s3_cost_dollars_total",
    Kind.COUNTER,
    "Estimated cost in dollars of the requests to S3, by the price table.",
)
IN_FLIGHT: Final = Metric(
    "keyhole_scans_in_flight", Kind.GAUGE, "Objects that the processes of this worker are scanning now."
)
EVENTS: Final = Metric(
    "keyhole_events_total",
    Kind.COUNTER,
    "Messages and events that this listener received, by outcome; received counts messages.",
    ("outcome",),
)
DELIVERIES: Final = Metric(
    "keyhole_sink_deliveries_total",
    Kind.COUNTER,
    "Deliveries of verdicts to sinks: delivered, failed (will be retried) or dead (given up).",
    ("sink", "outcome"),
)
AUDIT_OBJECTS: Final = Metric(
    "keyhole_audit_objects_total",
    Kind.COUNTER,
    "Objects that audits listed: queued for a scan, unchanged, archived or left_out.",
    ("outcome",),
)
BUILD: Final = Metric(
    "keyhole_build_info",
    Kind.GAUGE,
    "Always 1; the labels are the version and the role: worker, listener or scheduler.",
    ("version", "role"),
)
QUEUE_MESSAGES: Final = Metric(
    "keyhole_queue_messages", Kind.GAUGE, "Messages that wait in a queue of the broker.", ("queue",)
)
QUEUE_UNACKNOWLEDGED: Final = Metric(
    "keyhole_queue_unacknowledged",
    Kind.GAUGE,
    "Messages of a queue that workers are working on, by their leases in the ledger.",
    ("queue",),
)
QUEUE_OLDEST: Final = Metric(
    "keyhole_queue_oldest_seconds",
    Kind.GAUGE,
    "Age of the oldest waiting message of a queue in seconds; 0 if no message waits.",
    ("queue",),
)
UNDECIDED: Final = Metric(
    "keyhole_undecided_objects",
    Kind.GAUGE,
    "Postponed messages, each with an object whose last scan reached no verdict.",
)
DEAD: Final = Metric("keyhole_dead_letters", Kind.GAUGE, "Dead letters, by kind.", ("kind",))
OWED: Final = Metric(
    "keyhole_sink_deliveries_owed",
    Kind.GAUGE,
    "Verdicts that are still to be delivered to a sink, including failed deliveries that will be retried.",
    ("sink",),
)
WORKERS: Final = Metric("keyhole_workers", Kind.GAUGE, "Workers that are running and take work.")
AUDITS: Final = Metric("keyhole_audits_running", Kind.GAUGE, "Running audits.")
AUDIT_PROGRESS: Final = Metric(
    "keyhole_audit_progress_ratio",
    Kind.GAUGE,
    "Share of the objects listed so far that the running audits of a bucket are done with, from 0 to 1.",
    ("bucket",),
)
STORE_UP: Final = Metric(
    "keyhole_store_up",
    Kind.GAUGE,
    "1 if Redis answered in time; 0 otherwise, and then the other gauges of this page are missing.",
)

#: The metrics that a process counts itself.
COUNTED: Final = (
    *(VERDICTS, QUEUE_WAIT, SCAN, S3_REQUESTS, S3_BYTES, S3_ERRORS, S3_RETRIES, S3_COST, IN_FLIGHT),
    *(EVENTS, DELIVERIES, AUDIT_OBJECTS),
)
#: The gauges that a process reads from Redis and from the broker when it answers a request for its metrics.
READ: Final = (
    *(QUEUE_MESSAGES, QUEUE_UNACKNOWLEDGED, QUEUE_OLDEST, UNDECIDED, DEAD, OWED, WORKERS, AUDITS),
    *(AUDIT_PROGRESS, STORE_UP),
)
METRICS: Final = (*COUNTED, BUILD, *READ)
