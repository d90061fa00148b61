"""Objects counted by owner: hostile names are names, and an unknown owner is told from none."""

from unittest.mock import ANY

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyhole.intake.audits.audit import AuditedObject
from keyhole.reasons import Status
from keyhole.reports import groups
from keyhole.reports.owned import EMPTY, MOST_REASONS, NO_TAG, SHOWN_REASONS, UNKNOWN
from keyhole.reports.owners import (
    OTHERS,
    OwnerGroup,
    Owners,
    name_code,
    owner_code,
    owner_label,
)
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
    assert owners.why() == ["The owner of 2 objects is unknown: denied."]
    assert (owners.shown()[1].tally.stored, owners.shown()[1].tally.virtual) == (20, 200)


def test_many_owners_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_GROUPS", 20)
    owners = counted(*(owned(f"{n:03}") for n in range(100)), owned(None))

    *named, others, untagged = owners.shown()

    assert [group.label for group in named] == [f"{n:03}" for n in range(groups.SHOWN_GROUPS)]
    assert (others.label, others.code, others.tally.objects) == (
        "all other owners (more than 8)",
        None,
        100 - groups.SHOWN_GROUPS,
    )
    assert untagged.code == "-"


def test_the_number_of_reasons_is_bounded() -> None:
    owners = counted(*(owned(None, unknown=f"reason {n}") for n in range(1000)))

    *_, last = owners.why()
    assert len(owners.why()) == SHOWN_REASONS + 1
    assert last == f"The owner of {1000 - SHOWN_REASONS} other objects is unknown for other reasons."
    assert len(owners._why._why) == MOST_REASONS
    assert owners.shown()[0].tally.objects == 1000


@given(st.text(max_size=256))
@example("\u202e" * 256)
def test_no_name_is_taken_for_another_group(name: str) -> None:
    code = owner_code(row_of(owned(name)))

    assert code[0] == "="
    assert code.isprintable()
    assert counted(owned(name)).shown() == [OwnerGroup(owner_label(name), code, ANY)]
    assert owner_code(row_of(owned(None))) == "-"
    assert owner_code(row_of(owned(None, unknown=name)))[0] == "!"


NAMES = st.text(st.sampled_from("\\u202e\u202e\x1bx1b ab"), max_size=9)


@given(NAMES, NAMES)
@example("a\u202e", r"a\u202e")
@example("\u202e" * 255 + "a", "\u202e" * 255 + "b")
def test_two_owners_never_have_one_code(one: str, other: str) -> None:
    """A page shows invisible characters as escapes, so a name could once imitate another one."""
    assert (name_code(one) == name_code(other)) == (one == other)


@pytest.mark.parametrize("group", [NO_TAG, UNKNOWN, OTHERS, EMPTY])
def test_an_owner_that_is_named_like_a_group_has_quotation_marks(group: str) -> None:
    for name in (group, f"  {group.upper()}", group.replace(" ", "  "), f"{group} (12)"):
        assert owner_label(name) == f"“{name}”"
    assert owner_label("payments") == "payments"
    assert owner_label("") == EMPTY
