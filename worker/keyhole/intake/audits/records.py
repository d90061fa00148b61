"""The records of an audit: the values that its steps take and return, and how some of them are packed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from keyhole.intake.audits.audit import AuditState, BucketFinding, How
from keyhole.jobs.entry import Entry
from keyhole.reasons import Status

#: The bytes of a row for the status, and for how the audit got the verdict. Existing bytes never change.
_STATUS_BYTES: Final = dict(zip(Status, b"sudrnixf", strict=True))
_HOW_BYTES: Final = dict(zip(How, b"SUA", strict=True))
_STATUSES: Final = {byte: status for status, byte in _STATUS_BYTES.items()}
_HOWS: Final = {byte: how for how, byte in _HOW_BYTES.items()}
ROW_BYTES: Final = 18

#: Costs are counted in billionths of a dollar; a GET costs 400 of them.
NANO: Final = 1_000_000_000


class Row(NamedTuple):
    """One object of an audit, by its hash."""

    object_id: str
    status: Status
    how: How

    def packed(self) -> bytes:
        """The row in the form of Redis."""
        return bytes.fromhex(self.object_id) + bytes([_STATUS_BYTES[self.status], _HOW_BYTES[self.how]])

    @classmethod
    def unpacked(cls, row: bytes) -> Self:
        """The row of `packed`."""
        return cls(row[:16].hex(), _STATUSES[row[16]], _HOWS[row[17]])


class Result(NamedTuple):
    """The result of one job of an audit."""

    object_id: str
    status: Status
    requests: int
    bytes_read: int
    nanodollars: int


class Place(NamedTuple):
    """Where a page begins: its number, the lister's cursor (`None`: the start), the last key before it."""

    page: int
    cursor: str | None
    after: str | None


class Claim(NamedTuple):
    """The right to list a page, until it is released or expires."""

    audit_id: str
    page: int
    token: str


@dataclass(frozen=True, slots=True)
class PageResult:
    """The result of a page.

    Args:
        counts: What to add to the totals, by the names of `Totals`, `status:<status>` and `nanodollars`.
        cursor: Where the next page begins; `None` if this was the last.
        after: The last key of this page.
        ends_as: The state in which the audit ends when this was the last page, and why.
    """

    counts: Mapping[str, int]
    batches: tuple[Entry, ...] = ()
    rows: tuple[Row, ...] = ()
    findings: tuple[BucketFinding, ...] = ()
    cursor: str | None = None
    after: str | None = None
    ends_as: AuditState = AuditState.DONE
    reason: str = ""
