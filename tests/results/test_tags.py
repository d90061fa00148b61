"""Tags: their content, and how they are combined with other people's tags."""

from hypothesis import given
from hypothesis import strategies as st

from keyhole.reasons import Status
from keyhole.results.tags import OWN_TAGS, merged, own_tags
from tests.results.tag_reports import NOON, report


class TestWhatTheTagsSay:
    def test_a_verdict_is_four_tags(self) -> None:
        """The tags state the status, the format and size, the reasons, and the scan."""
        told = report(Status.UNSAFE, reasons=("backing_file", "truncated"), scanned_at=NOON.astimezone())

        assert own_tags(told) == {
            "keyhole-status": "unsafe",
            "keyhole-image": "qcow2 1073741824",
            "keyhole-reason": "backing_file truncated",
            "keyhole-scan": "2026-05-01T12:00:00Z 0.1.0 abc",
        }

    def test_what_is_unknown_has_no_tag(self) -> None:
        """An empty value has no information, and would use one of ten tags."""
        told = report(Status.UNRECOGNIZED, format=None, virtual_size=None)

        assert set(own_tags(told)) == {"keyhole-status", "keyhole-scan"}

    def test_reasons_are_cut_between_two(self) -> None:
        """A truncated code would be another code."""
        told = report(Status.UNSAFE, reasons=tuple(f"reason_{number:03}" for number in range(100)))

        value = own_tags(told)["keyhole-reason"]

        assert 240 < len(value) <= 256
        assert value.split() == list(told.reasons[: len(value.split())])

    @given(st.text(), st.text(min_size=1), st.lists(st.text()), st.text())
    def test_values_are_what_s3_takes(self, scanner: str, etag: str, reasons: list[str], name: str) -> None:
        """The test tries reports with random values."""
        told = report(scanner=scanner, etag=etag, reasons=tuple(reasons), format=name)

        for value in own_tags(told).values():
            assert len(value.encode("utf-16-le")) // 2 <= 256
            assert all(sign.isascii() and (sign.isalnum() or sign in " +-=._:/@") for sign in value)


@given(st.dictionaries(st.sampled_from([*OWN_TAGS, *map(str, range(12))]), st.text(max_size=3), max_size=10))
def test_a_merged_set_fits_and_has_all_of_theirs(present: dict[str, str]) -> None:
    """The test tries random sets of existing tags."""
    theirs = {name: value for name, value in present.items() if name not in OWN_TAGS}

    wanted = merged(present, own_tags(report(reasons=("dirty",))))

    if wanted is None:
        assert len(theirs) == 10
    else:
        assert len(wanted) <= 10
        assert theirs.items() <= wanted.items()
        assert "keyhole-status" in wanted
