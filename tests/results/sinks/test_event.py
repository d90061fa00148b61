"""The event is a CloudEvent of bounded size, and one verdict always has the same id."""

import json

from keyhole.inspectors.findings import Finding, Severity
from keyhole.reasons import Status
from keyhole.results.sinks.event import LONGEST_MESSAGE, MOST_FINDINGS, Event
from tests.results.sinks.reports import EVENT, report

#: The smallest of the sinks' limits for the size of a message, in bytes.
LIMIT = 256 * 1024


def test_it_has_the_attributes_that_cloudevents_requires() -> None:
    event = json.loads(EVENT.body)

    assert {name: event[name] for name in ("specversion", "id", "source", "type")} == {
        "specversion": "1.0",
        "id": EVENT.id,
        "source": "keyhole",
        "type": "keyhole.verdict.v1",
    }
    assert event["time"] == "2026-05-01T12:00:00Z"
    assert event["subject"] == "s3://images/a.qcow2"
    assert event["datacontenttype"] == "application/json"


def test_its_data_states_the_verdict() -> None:
    data = EVENT.data

    assert (data["bucket"], data["key"], data["version_id"], data["etag"]) == (
        "images",
        "a.qcow2",
        None,
        '"abc"',
    )
    assert (data["status"], data["reasons"], data["job"]) == ("unsafe", ["backing_file"], "job")
    assert data["findings"] == [
        {
            "check": "backing_file",
            "severity": "critical",
            "message": "it names the backing file /etc/shadow",
        }
    ]


def test_the_verdict_of_a_job_always_has_the_same_id() -> None:
    """A job whose worker is lost is done again: the second report has another time."""
    again = report(scanned_at=report().scanned_at.replace(hour=13), elapsed_ms=7)

    assert Event.of(again, job_id="job").id == EVENT.id


def test_another_object_or_job_or_status_has_another_id() -> None:
    others = [
        Event.of(report(key="b.qcow2"), job_id="job"),
        Event.of(report(version_id="1"), job_id="job"),
        Event.of(report(etag='"def"'), job_id="job"),
        Event.of(report(status=Status.SAFE), job_id="job"),
        Event.of(report(), job_id="other"),
    ]

    assert len({EVENT.id, *(event.id for event in others)}) == 6


def test_its_size_is_bounded_whatever_the_image_contains() -> None:
    long = Finding("backing_file", Severity.CRITICAL, "\U0001f511" * 10_000)
    large = Event.of(
        report(
            findings=(long,) * 1000,
            members=(report(),) * 1000,
            key="\x7f\ufffe" * 300,
            content=("dos",) * 999,
        ),
        job_id="job",
    )

    assert len(large.body) < LIMIT
    assert len(large.data["findings"]) == MOST_FINDINGS
    assert large.data["findings_left_out"] == 1000 - MOST_FINDINGS
    assert len(large.data["findings"][0]["message"]) == LONGEST_MESSAGE


def test_it_is_ascii_because_sqs_refuses_some_other_characters() -> None:
    assert Event.of(report(key="a\x01\uffff\u00e9"), job_id="job").body.isascii()


def test_it_is_read_back_with_the_same_bytes() -> None:
    assert Event.from_json(EVENT.body) == EVENT
