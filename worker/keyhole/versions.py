"""The versions of the formats that Keyhole writes to the broker and to Redis.

While an operator upgrades Keyhole host by host, older and newer workers share the queues and Redis. So each
message and each record states the version of its format. If a reader finds a later version than it supports,
the reader does not guess. It leaves the work to newer workers, or reports that a later version wrote the
record.

Rules for a change:

- Raise a version if an older reader would misread the new content, or must not ignore it. For example, a job
  with a new field can require a scan that an older worker cannot do.
- If the new content is optional, continue to write the lower version when the content is absent. Then older
  workers can do all work that does not need the new content.
- A new field in a report does not need a new version, because readers ignore unknown fields of a report.
- `keyhole.store.keys` describes the version of the keys, which is separate.
"""

from typing import Final

from pydantic import ValidationError

#: The version of ledger entries, which messages also contain (`keyhole.jobs.entry`). A batch of an audit has
#: the version of the audit's specification, because a worker that scans the batch reads the specification.
ENTRY: Final = 2
#: The version of reports, which records and the stream of verdicts contain (`keyhole.scan.report`).
REPORT: Final = 1
#: The version of tag debts, which record the tags that are not written yet (`keyhole.results.tags`).
TAG_DEBT: Final = 1
#: The version of the specifications of audits, which schedules also contain (`keyhole.intake.audits.audit`).
#: A specification has version 2 only if it sets a field of `AUDIT_2`. If such a field is not set, it is not
#: written, because an older worker refuses unknown fields.
AUDIT: Final = 2
AUDIT_2: Final = ("fix_tags", "owner_tag")


def why_unreadable(error: ValueError) -> str:
    """Return in one line why a text from Redis or from the broker cannot be read.

    If a later version of Keyhole wrote the text, the line states both versions.
    """
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    errors = error.errors(include_url=False)
    for each in errors:
        if each["loc"][-1:] == ("version",) and each["type"] == "less_than_equal":
            return later(each["input"], each["ctx"]["le"])
    where = ".".join(map(str, errors[0]["loc"]))
    return f"{where}: {errors[0]['msg']}" if where else errors[0]["msg"]


def later(version: object, supported: int) -> str:
    """Return the sentence for content whose version is later than the supported version."""
    return (
        f"a later version of Keyhole wrote it, in format {version}; "
        f"this version of Keyhole reads formats up to {supported}, so upgrade it"
    )


def stated(content: object) -> int:
    """Return the version that a JSON value states; 1 if it states no version."""
    version = content.get("version", 1) if isinstance(content, dict) else 1
    return version if isinstance(version, int) else 1
