"""Objects counted by folder: on a level that tells something, and with bounded memory."""

import pytest

from keyhole.reasons import Status
from keyhole.reports import groups
from keyhole.reports.groups import Group, Prefixes
from keyhole.reports.rows import row_of
from tests.reports import sample


def counted(keys: dict[str, Status], prefix: str = "") -> list[Group]:
    prefixes = Prefixes(prefix)
    for key, status in keys.items():
        reasons = ("not_an_image",) if status is Status.UNRECOGNIZED else ()
        report = sample.verdict(key, status, reasons=reasons, size=10, virtual_size=100)
        prefixes.add(row_of(sample.audited(report)))
    return prefixes.groups().shown()


def test_the_folder_with_the_most_objects_that_are_not_safe_comes_first() -> None:
    found = counted(
        {
            "a/1": Status.SAFE,
            "a/2": Status.UNRECOGNIZED,
            "b/1": Status.UNSAFE,
            "b/c/2": Status.SAFE,
            "top": Status.SAFE,
        }
    )

    assert [(name, tally.objects, tally.safe, tally.not_safe) for name, tally in found] == [
        ("b/", 2, 1, 1),
        ("a/", 2, 1, 0),
        ("", 1, 1, 0),
    ]
    assert (found[0].tally.stored, found[0].tally.virtual) == (20, 200)


def test_a_folder_that_contains_all_others_is_not_shown_alone() -> None:
    found = counted({"images/linux/1": Status.SAFE, "images/windows/1": Status.SAFE})
    assert [name for name, _ in found] == ["images/linux/", "images/windows/"]


@pytest.mark.parametrize("prefix", ["a/b/", "a/b/l"])
def test_folders_are_those_below_the_prefix_of_the_audit(prefix: str) -> None:
    found = counted({"a/b/linux/1": Status.SAFE, "a/b/last/1": Status.SAFE}, prefix)
    assert [name for name, _ in found] == ["a/b/last/", "a/b/linux/"]


def test_many_folders_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_GROUPS", 20)
    keys = {f"{n:03}/x": Status.SAFE for n in range(100)}

    *shown, (rest, tally) = counted(keys)

    assert [name for name, _ in shown] == [f"{n:03}/" for n in range(groups.SHOWN_GROUPS)]
    assert (rest, tally.objects) == (None, 100 - groups.SHOWN_GROUPS)
