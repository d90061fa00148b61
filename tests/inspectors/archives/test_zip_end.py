"""Keyhole finds the end of a ZIP exactly where Python and unzip find it."""

import io
import zipfile

import pytest

from keyhole.inspectors import readers
from keyhole.inspectors.archives.zip import end as zip_end

KIB = 1024


def zipped(comment: bytes = b"", before: bytes = b"") -> bytes:
    """A ZIP of one file after other bytes."""
    out = io.BytesIO(before)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("disk.raw", b"a disk")
        archive.comment = comment
    return out.getvalue()


def found(data: bytes) -> list[zip_end.EndRecord]:
    return [*zip_end.archives(data[-zip_end.TAIL_BYTES :], len(data))]


@pytest.mark.parametrize("before", [b"", bytes(100 * KIB)])
@pytest.mark.parametrize("comment", [b"", b"c" * 0xFFFF])
@pytest.mark.parametrize("behind", [b"", bytes(500)])
def test_it_is_found_where_python_finds_it(before: bytes, comment: bytes, behind: bytes) -> None:
    data = zipped(comment, before)
    data = data[: len(data) - len(behind) * bool(comment)] + behind
    assert zipfile.is_zipfile(io.BytesIO(data))
    [record] = found(data)
    assert (record.entries, record.comment) == (1, len(comment))
    assert data[record.offset :].startswith(zip_end.SIGNATURE)
    assert data[record.directory_ends - record.directory_bytes :].startswith(zip_end.CENTRAL)


def test_further_in_than_readers_search_there_is_none() -> None:
    assert found(zipped() + bytes(readers.ZIP_SEARCHED_BYTES - readers.ZIP_END_BYTES)) != []
    assert found(zipped() + bytes(zip_end.TAIL_BYTES)) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\5\6",
        bytes(500) + zip_end.SIGNATURE + bytes(17),
        bytes(500) + zip_end.SIGNATURE + bytes(18),
        bytes(500) + zip_end.SIGNATURE + b"\xff" * 18,
    ],
    ids=["empty", "only the mark", "cut", "no entries", "a directory before the object"],
)
def test_the_mark_alone_is_no_archive(data: bytes) -> None:
    assert found(data) == []


def test_of_two_records_the_last_comes_first() -> None:
    data = zipped() + zipped()
    assert [record.offset for record in found(data)] == [len(data) - 22, len(data) // 2 - 22]


def test_a_zip64_locator_is_told() -> None:
    locator = zip_end.LOCATOR + bytes(4) + (77).to_bytes(8, "little") + bytes(4)
    data = bytes(200) + locator + zip_end.SIGNATURE + b"\xff" * 16 + bytes(2)
    [record] = found(data)
    assert (record.zip64, record.needs_zip64, record.directory_ends) == (77, True, 77)


def test_records_without_end_are_bounded() -> None:
    assert len([*zip_end.records(zip_end.SIGNATURE * 16_000, 64_000)]) == zip_end.MAX_RECORDS
