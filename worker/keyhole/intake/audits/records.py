"""The records of an audit: the inputs and results of its steps, and the binary format of rows in Redis."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from keyhole.intake.audits.audit import AuditState, BucketFinding, How
from keyhole.intake.audits.costs import NOTHING, Cost
from keyhole.jobs.entry import Entry
from keyhole.reasons import Status
from keyhole.results.owner import Owner
from keyhole.results.tags import TagDebt

#: The bytes that represent the status of a verdict, and the way in which the audit got the verdict. Never
#: change these bytes, because existing rows in Redis contain them.
STATUS_BYTES: Final = dict(zip(Status, b"sudrnixf", strict=True))
_HOW_BYTES: Final = dict(zip(How, b"SUA", strict=True))
_STATUSES: Final = {byte: status for status, byte in STATUS_BYTES.items()}
_HOWS: Final = {byte: how for how, byte in _HOW_BYTES.items()}
ROW_BYTES: Final = 18
#: The offset of the status in a row.
STATUS_AT: Final = 16

#: The number of billionths in a dollar. Redis counts costs as integers, in billionths of a dollar: for
#: example, a GET costs 400 billionths.
NANO: Final = 1_000_000_000


#: In the counts of an audit, objects that are certainly not images have this status instead of
#: `unrecognized`. It consists of letters, as the scripts of Redis require of a status. An earlier version of
#: Keyhole does not know this status, and leaves these objects out of its totals.
NOT_AN_IMAGE: Final = "notimage"


def counted_status(status: Status, *, not_an_image: bool) -> str:
    """Return the status under which an object is counted."""
    return NOT_AN_IMAGE if not_an_image else status.value


class Row(NamedTuple):
    """One object of an audit.

    `object_id` is the hash of the object's bucket, key and version (`store.keys`).
    """

    object_id: str
    status: Status
    how: How

    def packed(self) -> bytes:
        """Return the row in the binary format that is stored in Redis."""
        return bytes.fromhex(self.object_id) + bytes([STATUS_BYTES[self.status], _HOW_BYTES[self.how]])

    @classmethod
    def unpacked(cls, row: bytes) -> Self:
        """Parse a row in the binary format that `packed` returns."""
        return cls(row[:STATUS_AT].hex(), _STATUSES[row[STATUS_AT]], _HOWS[row[17]])


class Result(NamedTuple):
    """The result of one job of an audit."""

    object_id: str
    status: Status
    requests: int
    bytes_read: int
    nanodollars: int
    #: Whether the object is certainly not an image, such as a PDF.
    not_an_image: bool = False
    #: The object's owner; `None` if the audit has no owner tag.
    owner: Owner | None = None


class Place(NamedTuple):
    """The place at which a page begins.

    `page` is the page's number, and `cursor` is the lister's cursor (`None` for the first page). `after` is
    the last key of the previous page.
    """

    page: int
    cursor: str | None
    after: str | None


class Claim(NamedTuple):
    """The exclusive right of a process to list a page.

    The right ends when the process releases it, or when it expires.
    """

    audit_id: str
    page: int
    token: str


@dataclass(frozen=True, slots=True)
class PageResult:
    """The result of a page.

    Args:
        counts: The numbers to add to the totals, by name: the names of fields in `Totals`, `status:<status>`
            and `nanodollars`.
        batches: The batches of objects to scan.
        rows: The objects that need no scan.
        findings: The findings about the bucket.
        tag_debts: The tags that workers must write, because the objects' tags contradict their verdicts.
        cost_of_debts: The expected cost of writing these tags, which `counts` includes.
        cursor: The cursor of the next page; `None` if this was the last page.
        after: The last key of this page.
        ends_as: If this was the last page: the state in which the audit ends.
        reason: Why the audit ends.
        owners: The owners of the objects in `rows`, in the same order; `None` if the audit has no owner tag.
    """

    counts: Mapping[str, int]
    batches: tuple[Entry, ...] = ()
    rows: tuple[Row, ...] = ()
    findings: tuple[BucketFinding, ...] = ()
    tag_debts: tuple[TagDebt, ...] = ()
    cost_of_debts: Cost = NOTHING
    cursor: str | None = None
    after: str | None = None
    ends_as: AuditState = AuditState.DONE
    reason: str = ""
    owners: tuple[Owner, ...] | None = None
