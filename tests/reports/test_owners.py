"""Objects counted by owner: hostile names are names, and an unknown owner is told from none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.audits.audit import AuditedObject
from keyhole.reasons import Status
from keyhole.reports import groups
from keyhole.reports.owners import SHOWN_REASONS, OwnerGroup, Owners, owner_code
from keyhole.reports.rows import row_of
from tests.reports import sample


def owned(owner: str | None, status: Status = Status.SAFE, unknown: str | None = None) -> AuditedObject:
    report = sample.verdict("a", status, size=10, virtual_size=100)
    return sample.audited(report).model_copy(update={"owner": owner, "owner_unknown": unknown})


def counted(*objects: AuditedObject) -> Owners:
    owners = Owners()
    for one in objects:
        owners.add(row_of(one))
    return owners


def told(owners: Owners) -> list[tuple[str, str | None, int, int]]:
    return [(label, code, tally.objects, tally.not_safe) for label, code, tally in owners.shown()]


def test_owners_are_counted_and_what_has_none_comes_last() -> None:
    owners = counted(
        owned("payments"),
        owned(None),
        owned("identity", Status.UNSAFE),
        owned(""),
        owned(None, unknown="denied"),
        owned(None, Status.DAMAGED, unknown="denied"),
        owned("payments"),
    )

    assert told(owners) == [
        ("identity", "=identity", 1, 1),
        ("payments", "=payments", 2, 0),
        ("an empty tag", "=", 1, 0),
        ("no owner tag", "-", 1, 0),
        ("unknown owner", "!", 2, 1),
    ]
    assert owners.why() == [("denied", 2)]
    assert (owners.shown()[1].tally.stored, owners.shown()[1].tally.virtual) == (20, 200)


def test_many_owners_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_GROUPS", 20)
    owners = counted(*(owned(f"{n:03}") for n in range(100)), owned(None))

    *named, others, untagged = owners.shown()

    assert [group.label for group in named] == [f"{n:03}" for n in range(groups.SHOWN_GROUPS)]
    assert (others.label, others.code, others.tally.objects) == (
        "all other owners",
        None,
        100 - groups.SHOWN_GROUPS,
    )
    assert untagged.code == "-"


def test_the_number_of_reasons_is_bounded() -> None:
    owners = counted(*(owned(None, unknown=f"reason {n}") for n in range(1000)))

    assert len(owners.why()) == SHOWN_REASONS
    assert len(owners._why) == 100
    assert owners.shown()[0].tally.objects == 1000


@given(st.text(max_size=256))
def test_no_name_is_taken_for_another_group(name: str) -> None:
    assert owner_code(row_of(owned(name))) == f"={name}"
    assert owner_code(row_of(owned(None))) == "-"
    assert owner_code(row_of(owned(None, unknown=name))) == f"!{name}"
    assert isinstance(counted(owned(name)).shown()[0], OwnerGroup)
