"""Packed reports: every version reads them, and a damaged one is an error."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.results import packing
from keyhole.results.packing import UnpackError, pack, unpack

#: A report, and its packed form as the first version with packed reports wrote it.
REPORT = (
    b'{"target":"s3://images/a.qcow2","bucket":"images","key":"a.qcow2","version_id":null,'
    b'"etag":"\\"6e3bd438119f5665042c41f869628f3c\\"","size":17104896,"status":"safe"}'
)
PACKED = (
    b"~COP\x90\xe4\xa3\x9fH0a!T\xe0IYf\xa9\xc6I)&\xc6\x16\x86\x86\x96i\xa6ff\xa6\x06&F\xc9&\x86i\x16f\x96fF\x16i"
    b"\xc6\xc9\xc8\xe9\xce\x1cT\x18Y\x82\xa2\r%\xdck\x01"
)


@given(st.binary() | st.lists(st.sampled_from([b"\n", b"\x1b", b"0", b"1", b"~"])).map(b"".join))
def test_what_is_packed_comes_back_and_fits_into_one_line(report: bytes) -> None:
    packed = pack(report)

    assert b"\n" not in packed
    assert unpack(packed) == report


@given(st.binary())
def test_escaping_is_reversible(report: bytes) -> None:
    """Random bytes are not compressed, so the stream contains their line feeds and escapes."""
    report += b"\n\x1b\x1b0\x1b1" * 2

    assert unpack(pack(report)) == report


def test_records_of_earlier_versions_stay_readable() -> None:
    """This test fails if somebody changes the dictionary: no existing record could be read."""
    assert unpack(PACKED) == REPORT


def test_json_is_returned_unchanged() -> None:
    assert unpack(REPORT) == REPORT


def test_a_report_takes_a_fraction_of_its_json() -> None:
    assert len(pack(REPORT)) < len(REPORT) / 2


@pytest.mark.parametrize(
    "packed", [b"~", b"~\xff", PACKED[:-1], PACKED + b"more", PACKED[:9] + b"\xff\xff" + PACKED[11:]]
)
def test_a_damaged_report_is_an_error(packed: bytes) -> None:
    with pytest.raises(UnpackError, match="cannot be unpacked"):
        unpack(packed)


class TestLongReports:
    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packing, "_LONGEST", 100)

    @pytest.mark.parametrize("length", [99, 100, 101])
    def test_they_are_not_packed(self, length: int) -> None:
        report = b"{" * length

        assert pack(report).startswith(b"~") == (length < 100)
        assert unpack(pack(report)) == report

    def test_a_bomb_is_not_unpacked(self) -> None:
        packer = zlib.compressobj(wbits=-12)
        bomb = packer.compress(b"x" * 10_000) + packer.flush()

        with pytest.raises(UnpackError, match="too long"):
            unpack(b"~" + bomb.replace(b"\x1b", b"\x1b1").replace(b"\n", b"\x1b0"))
