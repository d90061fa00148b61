"""Compares an audit with the last audit of the same objects.

An audit stores an id and a status for each object, so audits are compared by ids. The id depends on the
object's version: if somebody replaces an object in a bucket with versions, the new version has another id.
So if only one of the audits has an id, the recorded verdict resolves it to a key, and keys are compared.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from keyhole.intake.audits.audit import Audit, AuditState
from keyhole.intake.audits.reader import AuditReader
from keyhole.reasons import Status
from keyhole.results.lookup import Lookup
from keyhole.scan.report import Report
from keyhole.store import keys

#: How many audits are searched for the last one of the same objects.
_SEARCHED: Final = 1000
#: The largest audits that are compared object by object. A million ids take about 150 MB.
MOST_COMPARED: Final = 1_000_000
#: The maximum number of ids that are resolved to keys. A verdict has a few kilobytes.
MOST_RESOLVED: Final = 50_000
#: How many verdicts one request fetches.
_PAGE: Final = 500
#: How a page calls an object that the last audit did not have.
NEW: Final = "new"


class Move(NamedTuple):
    """How the status of objects changed. `before` is `None` for objects that the last audit did not have."""

    before: Status | None
    after: Status


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since the last audit of the same objects.

    Args:
        last: The last audit.
        compared: Whether the objects were compared. If not, only the totals can be.
        moves: How many objects changed their status, or are new.
        gone: The number of objects that only the last audit had.
        gone_keys: The keys of some of these objects.
        of_object: The change of each object that changed, by the object's id.
    """

    last: Audit
    compared: bool = True
    moves: Counter[Move] = field(default_factory=Counter)
    gone: int = 0
    gone_keys: tuple[str, ...] = ()
    of_object: dict[str, Move] = field(default_factory=dict)

    def change(self, report: Report) -> str:
        """Return the former status of an object that changed, `new`, or an empty text."""
        if not self.of_object or report.bucket is None or report.key is None:
            return ""
        move = self.of_object.get(keys.object_id(report.bucket, report.key, report.version_id))
        return "" if move is None else move.before or NEW

    @property
    def new(self) -> int:
        """Return the number of objects that the last audit did not have."""
        return sum(count for move, count in self.moves.items() if move.before is None)

    @property
    def changed(self) -> int:
        """Return the number of objects with another status than in the last audit."""
        return self.moves.total() - self.new


def changes_since_last(audits: AuditReader, lookup: Lookup, audit: Audit) -> Changes | None:
    """Return what changed since the last audit of the same objects; `None` if there is no such audit."""
    last = _last(audits, audit)
    if last is None:
        return None
    if max(_objects(last), _objects(audit)) > MOST_COMPARED:
        return Changes(last, compared=False)
    before = {row.object_id: row.status for row in audits.rows(last.id)}
    found: dict[str, Move] = {}
    for row in audits.rows(audit.id):
        former = before.pop(row.object_id, None)
        if former is not row.status:
            found[row.object_id] = Move(former, row.status)
    new = [object_id for object_id, move in found.items() if move.before is None]
    gone_keys: dict[str, str] = {}
    if len(before) + len(new) <= MOST_RESOLVED:
        gone_keys = dict(_keys(lookup, list(before)))
        if not audit.spec.versions:
            _match_by_key(lookup, found, new, before, gone_keys)
    names = sorted(gone_keys[object_id] for object_id in before if object_id in gone_keys)
    return Changes(
        last,
        moves=Counter(found.values()),
        gone=len(before),
        gone_keys=tuple(names),
        of_object=found,
    )


def _last(audits: AuditReader, audit: Audit) -> Audit | None:
    """Return the last audit before this one that is done and selected its objects in the same way."""
    for other in audits.latest(_SEARCHED):
        if (
            other.state is AuditState.DONE
            and other.started_at < audit.started_at
            and _selected(other) == _selected(audit)
        ):
            return other
    return None


def _selected(audit: Audit) -> tuple[object, ...]:
    spec = audit.spec
    return spec.bucket, spec.prefix, spec.selection, spec.limit, spec.versions


def _objects(audit: Audit) -> int:
    return sum(audit.totals.statuses.values())


def _keys(lookup: Lookup, object_ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the id and the key of each object whose verdict has not expired."""
    for start in range(0, len(object_ids), _PAGE):
        page = object_ids[start : start + _PAGE]
        for object_id, report in zip(page, lookup.reports_by_id(page), strict=True):
            if report is not None and report.key is not None:
                yield object_id, report.key


def _match_by_key(
    lookup: Lookup,
    found: dict[str, Move],
    new: list[str],
    before: dict[str, Status],
    gone_keys: dict[str, str],
) -> None:
    """Treat a new and a gone object with the same key as one object that somebody replaced."""
    replaced = {key: object_id for object_id, key in gone_keys.items()}
    if not replaced:
        return
    for object_id, key in _keys(lookup, new):
        former_id = replaced.pop(key, None)
        if former_id is None:
            continue
        former, after = before.pop(former_id), found[object_id].after
        if former is after:
            del found[object_id]
        else:
            found[object_id] = Move(former, after)
