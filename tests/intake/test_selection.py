"""The selection of objects: by globs that are never slow, and by samples that contain smaller samples."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from keyhole.intake.selection import Selection, parse_share

KIB = 1024
ANY_KEY = st.text(max_size=30)


def takes(
    key: str = "images/a.qcow2", size: int | None = 1, bucket: str = "images", **selection: object
) -> bool:
    return Selection.model_validate(selection).matches(bucket, key, size)


# Globs, suffixes and sizes


@given(ANY_KEY, ANY_KEY, st.none() | st.integers(0))
def test_without_wishes_everything_is_wanted(bucket: str, key: str, size: int | None) -> None:
    assert Selection().matches(bucket, key, size)


@pytest.mark.parametrize(
    ("glob", "key", "matches"),
    [
        ("*", "a/b\nc", True),
        ("*.qcow2", "images/a.qcow2", True),
        ("*.qcow2", "images/a.QCOW2", False),
        ("images/*", "images/a/b", True),
        ("images/*", "images", False),
        ("image?/*", "images/a", True),
        ("image?/*", "image/a", False),
        ("[ab]*", "b", True),
        ("[!ab]*", "b", False),
        ("a[*]", "a*", True),
        ("a[*]", "ab", False),
        ("a", "a/b", False),
        ("caf\u00e9*", "caf\u00e9.img", True),
        ("\N{FLOPPY DISK}?", "\N{FLOPPY DISK}\N{FLOPPY DISK}", True),
    ],
)
def test_a_glob_is_for_the_whole_key(glob: str, key: str, matches: bool) -> None:
    assert takes(key, include=[glob]) is matches
    assert takes(key, exclude=[glob]) is not matches


def test_one_of_several_globs_is_enough_and_what_is_excluded_is_out() -> None:
    wanted = {"include": ["a*", "b*"], "exclude": ["*z", "*y"]}
    assert [key for key in ("a", "b", "c", "az", "by", "cz") if takes(key, **wanted)] == ["a", "b"]


def test_buckets_are_selected_by_globs() -> None:
    assert takes(bucket="uploads-a", buckets=["images", "uploads-*"])
    assert not takes(bucket="uploads", buckets=["images", "uploads-*"])


@pytest.mark.parametrize("key", ["a.img", "a.IMG", "a.ISO"])
def test_suffixes_are_one_of_several_in_any_case(key: str) -> None:
    assert takes(key, suffixes=[".img", ".Iso"])
    assert not takes(key, suffixes=[".vmdk"])


@pytest.mark.parametrize(
    ("size", "wanted"),
    [(0, False), (KIB - 1, False), (KIB, True), (2 * KIB, True), (2 * KIB + 1, False), (None, True)],
)
def test_sizes_are_within_both_limits_or_unknown(size: int | None, wanted: bool) -> None:
    assert takes(size=size, min_size=KIB, max_size=2 * KIB) is wanted


def test_all_wishes_count() -> None:
    wanted = {"include": ["images/*"], "suffixes": [".img"], "min_size": 2}
    assert takes("images/a.img", 2, **wanted)
    assert not takes("other/a.img", 2, **wanted)
    assert not takes("images/a.iso", 2, **wanted)
    assert not takes("images/a.img", 1, **wanted)


@pytest.mark.parametrize(
    "wish",
    [
        {"sample": 0},
        {"sample": -0.1},
        {"sample": 1.1},
        {"sample": math.nan},
        {"sample": math.inf},
        {"min_size": -1},
        {"max_size": -1},
        {"sizes": 1},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wish: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Selection.model_validate(wish)


def matches_by_definition(glob: str, key: str) -> bool:
    """Whether a glob of `*`, `?` and letters matches, decided character by character."""
    reached = {0}
    for character in glob:
        if character == "*":
            reached = set(range(min(reached), len(key) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(key) and character in {"?", key[at]}}
    return len(key) in reached


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_a_glob_matches_what_its_definition_says(glob: str, key: str) -> None:
    assert takes(key, include=[glob]) is matches_by_definition(glob, key)


@given(st.text(st.sampled_from("ab*?[]!^-&|~\\.()+{}$\n"), max_size=20) | st.text(max_size=20), ANY_KEY)
def test_any_text_is_a_glob(glob: str, key: str) -> None:
    assert takes(key, include=[glob]) is not takes(key, exclude=[glob])


@pytest.mark.parametrize(
    "glob",
    [
        "*a*a*a*a*a*a*b",
        "*a" * 500 + "*b",
        "*" * 1000 + "b",
        "*?" * 500 + "b",
        "*[a-z]" * 200 + "*b",
        "*a?" * 300 + "b",
        "*" + "a" * 1000 + "b",
    ],
)
def test_no_glob_takes_for_ever(glob: str) -> None:
    # With backtracking over every star, the first takes 10^15 steps, and the others more
    assert not takes("a" * 1024, include=[glob])


# Samples

#: The objects among the first thousand that are in the sample of one percent.
SAMPLE = [19, 281, 553, 736, 781, 936, 999]
KEYS = [f"images/tenant-{number % 97}/disk-{number}.qcow2" for number in range(50_000)]


@given(ANY_KEY, st.floats(0, 1, exclude_min=True))
def test_a_sample_takes_the_same_keys_every_time(key: str, share: float) -> None:
    assert takes(key, sample=share) is takes(key, sample=share)


def test_a_sample_is_the_same_in_every_process_and_version() -> None:
    # If this changes, a repeated audit of a sample selects other objects
    assert [number for number, key in enumerate(KEYS[:1000]) if takes(key, sample=0.01)] == SAMPLE


@given(ANY_KEY, st.floats(0, 1, exclude_min=True), st.floats(0, 1, exclude_min=True))
def test_a_sample_is_within_every_larger_one(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert takes(key, sample=large) or not takes(key, sample=small)


@given(ANY_KEY)
def test_a_sample_of_all_is_all(key: str) -> None:
    assert takes(key, sample=1)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_a_sample_is_near_its_share(share: float) -> None:
    selection = Selection(sample=share)
    taken = sum(selection.matches("images", key, None) for key in KEYS)
    deviation = math.sqrt(len(KEYS) * share * (1 - share))
    assert abs(taken - len(KEYS) * share) < 5 * deviation


def test_a_sample_does_not_follow_the_names_of_keys() -> None:
    # Given a sample of half of all objects
    selection = Selection(sample=0.5)
    for tenant in range(0, 97, 10):
        of_tenant = [key for key in KEYS if f"/tenant-{tenant}/" in key]
        # Then it contains half of each tenant's objects
        share = sum(selection.matches("images", key, None) for key in of_tenant) / len(of_tenant)
        assert 0.35 < share < 0.65


# Notations of shares


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("1%", 0.01),
        ("0.5 %", 0.005),
        ("100%", 1),
        ("12.5%", 0.125),
        ("0.01", 0.01),
        ("1", 1),
        ("0.000001%", 1e-8),
    ],
)
def test_a_share_is_a_percentage_or_a_fraction(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%",
        "0",
        "0%",
        "0.0%",
        "101%",
        "1.1",
        "2",
        "-1%",
        "+1%",
        "1e-2",
        "nan",
        "inf",
        "1%%",
        "1 percent",
        ".5",
    ],
)
def test_what_is_no_share_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 1%"):
        parse_share(text)


@given(st.text(max_size=8))
def test_any_text_is_a_share_or_refused(text: str) -> None:
    try:
        share = parse_share(text)
    except ValueError:
        return
    assert 0 < share <= 1
