"""The event that tells other programs about a verdict: a CloudEvent in JSON (structured mode).

All sinks get the same event. The size of an event is bounded, because SNS, SQS and EventBridge accept at most
256 KiB. So the event leaves out the members and the details of the report, and all findings after the first
`MOST_FINDINGS`. An event contains only ASCII characters, because SQS refuses some other characters.

Source: CloudEvents 1.0.2, sections 2 and 3, and its JSON event format.
"""

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Self

from keyhole.scan.report import Report
from keyhole.store import keys

#: The attributes `source` and `type` of every event. EventBridge calls them Source and DetailType.
SOURCE: Final = "keyhole"
TYPE: Final = "keyhole.verdict.v1"
#: The media type of a CloudEvent in structured mode.
MEDIA_TYPE: Final = "application/cloudevents+json"
#: The maximum number of findings in an event, and the maximum number of characters of a finding's message.
MOST_FINDINGS, LONGEST_MESSAGE = 20, 500
#: The maximum number of waivers in an event. The texts of a waiver can have 7 KiB in JSON.
_MOST_WAIVERS: Final = 8
#: The maximum number of names in `content`, and of codes in `reasons`.
_MOST_NAMES: Final = 50
#: The size of an event's id, 128 bits. Among a billion events, two have the same id with probability 1e-21.
_ID_BYTES: Final = 16
#: The fields that are copied from the report to the event.
_FIELDS: Final = (
    *("target", "bucket", "key", "version_id", "etag", "size", "last_modified"),
    *("format", "subformat", "virtual_size", "actual_size", "content"),
    *("status", "reasons", "wholeness", "scanned_at", "scanner", "ruleset"),
)


@dataclass(frozen=True, slots=True)
class Event:
    """An event: its id, and the bytes of the CloudEvent. Every attempt sends the same bytes."""

    id: str
    body: bytes

    @classmethod
    def of(cls, report: Report, *, job_id: str) -> Self:
        """Return the event for a verdict.

        The id is derived from the object, the job and the status. If the verdict of a job is sent twice, both
        events have the same id, so a receiver can ignore the second one.
        """
        named = [report.bucket, report.key, report.version_id, report.etag, job_id, report.status]
        event_id = blake2b(json.dumps(named).encode(), digest_size=_ID_BYTES).hexdigest()
        facts = report.model_dump(mode="json", include={*_FIELDS, "findings", "waivers"})
        findings = facts.pop("findings")
        data = {name: facts[name] for name in _FIELDS} | {
            "content": facts["content"][:_MOST_NAMES],
            "reasons": facts["reasons"][:_MOST_NAMES],
            "findings": [
                {
                    "check": finding["check"],
                    "severity": finding["severity"],
                    "message": finding["message"][:LONGEST_MESSAGE],
                }
                for finding in findings[:MOST_FINDINGS]
            ],
            "findings_left_out": max(0, len(findings) - MOST_FINDINGS),
            "job": job_id,
        }
        if report.waivers:
            data["waivers"] = facts["waivers"][:_MOST_WAIVERS]
        event = {
            "specversion": "1.0",
            "id": event_id,
            "source": SOURCE,
            "type": TYPE,
            "subject": report.target,
            "time": facts["scanned_at"],
            "datacontenttype": "application/json",
            "data": data,
        }
        return cls(event_id, json.dumps(event, separators=(",", ":")).encode())

    @classmethod
    def from_json(cls, body: bytes) -> Self:
        """Return the event whose CloudEvent is `body`.

        Raises:
            ValueError: The body is not an event of Keyhole.
        """
        try:
            event = json.loads(body)
            return cls(str(event["id"]), body)
        except (KeyError, TypeError) as error:
            raise ValueError("it has no id") from error

    @property
    def group(self) -> str:
        """The group id of the event. All events about the same object have the same group id."""
        data = self.data
        return keys.object_id(str(data["bucket"]), str(data["key"]), data["version_id"])

    @property
    def data(self) -> dict[str, Any]:  # JSON
        """The `data` of the CloudEvent: the facts about the verdict."""
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data
