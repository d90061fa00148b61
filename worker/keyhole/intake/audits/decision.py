"""Decides what an audit does with each object. Audits and dry runs use the same function."""

from typing import NamedTuple

from keyhole.intake.audits.audit import AuditSpec, How
from keyhole.intake.audits.unchanged import is_unchanged
from keyhole.intake.listing import Listed
from keyhole.results.lookup import Stored


class Decision(NamedTuple):
    """The decision about one object of an audit.

    Args:
        how: The way in which the audit gets the object's verdict; `None` if the object is not selected.
        stands: Whether the stored verdict is still valid.
        compares_tags: Whether the audit compares the object's tags with the stored verdict.
        finds_owner: Whether the audit reads the object's owner from its tags. If the object is scanned, the
            worker that scans it does so instead.
    """

    how: How | None
    stands: bool = False
    compares_tags: bool = False
    finds_owner: bool = False

    @property
    def reads_tags(self) -> bool:
        """Whether the audit reads the object's tags itself, for which it needs one request."""
        return self.compares_tags or self.finds_owner


def decide(spec: AuditSpec, listed: Listed, stored: Stored | None, ruleset: str) -> Decision:
    """Return the decision about an object.

    Args:
        spec: The audit.
        listed: The object, as S3 listed it.
        stored: The stored verdict, if there is one.
        ruleset: The id of the current rules for verdicts. The id changes when Keyhole's rules or the policy
            change.
    """
    if not spec.selection.matches(spec.bucket, listed.key, listed.size):
        return Decision(None)
    stands = is_unchanged(stored, listed, ruleset)
    if listed.archived:
        how = How.ARCHIVED
    elif stands and not spec.full:
        how = How.UNCHANGED
    else:
        how = How.SCANNED
    return Decision(
        how,
        stands,
        compares_tags=stands and spec.compares_tags,
        finds_owner=spec.owner_tag is not None and how is not How.SCANNED,
    )
