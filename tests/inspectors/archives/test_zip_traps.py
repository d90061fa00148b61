"""ZIP archives that readers see differently, that lead outside, or that exhaust an unpacking program."""

import struct
import zipfile
from dataclasses import replace

import pytest

from keyhole.builders import Image, qcow2
from keyhole.builders.zip import LOCATOR, ZIP64_END
from keyhole.inspectors import Facts, Severity, Wholeness
from tests.inspectors.archives.walking import walk
from tests.inspectors.archives.zips import (
    DEFLATED,
    LINK,
    Part,
    deflated,
    descriptor,
    end,
    entry,
    field_of,
    image,
    local,
    unicode_path,
    zipped,
)

MIB = 1024**2
DISK = qcow2(MIB, allocated=2).to_bytes()
OTHER = qcow2(MIB, backing_file="/etc/shadow").to_bytes()
A, B = Part(b"a.qcow2", DISK), Part(b"b.qcow2", DISK)
HIDDEN = local(**Part(b"hidden", OTHER).numbers({})) + OTHER
GOOD = zipped([A, B])


def told(data: bytes) -> list[tuple[str, Severity]]:
    return [(finding.check, finding.severity) for finding in walk(image(data)).findings]


def checks(data: bytes) -> list[str]:
    return [check for check, _ in told(data)]


# The end


def test_two_end_records_that_both_end_with_the_object_are_two_archives() -> None:
    """The first record's comment extends to the object's end and contains the second record."""
    other = zipped([Part(b"other", OTHER)])
    both = zipped([A], comment=other[:60_000])
    assert zipped([A], comment=b"x" * 100 + end(0, 0, 0)) != both
    for comment in (end(0, 0, 0), b"see" + end(1, 50, 0), end(0, 0, 0) * 2):
        assert checks(zipped([A], comment=comment)) == ["ambiguous_format"]


def test_an_end_record_in_a_comment_that_goes_on_is_found() -> None:
    assert checks(zipped([A], comment=end(0, 0, 0) + b"more")) == ["ambiguous_format"]


def test_a_stored_archive_at_the_end_has_no_say() -> None:
    inner = zipped([A])
    facts = walk(image(zipped([Part(b"inner.zip", inner)])))
    assert (facts.findings, facts.members[0].facts.format) == ((), "zip")


@pytest.mark.parametrize("behind", [b"x", b"x" * 1000, bytes(60_000) + b"x"])
def test_what_follows_the_end_is_found(behind: bytes) -> None:
    assert checks(GOOD + behind) == ["trailing_data"]


@pytest.mark.parametrize("behind", [1, 512, 10_000, 65_000])
def test_zeros_behind_the_end_are_padding(behind: int) -> None:
    """bsdtar pads archives that it writes to a pipe."""
    assert checks(GOOD + bytes(behind)) == []
    assert checks(zipped([A], comment=b"see " + end(0, 0, 0)) + bytes(behind)) != []


def test_more_behind_the_end_than_readers_look_through_hides_it() -> None:
    assert checks(GOOD + bytes(70_000)) == ["trailing_data"]
    assert checks(GOOD + bytes(160_000)) == ["truncated"]


def test_two_archives_in_a_row_are_two() -> None:
    assert checks(GOOD + zipped([Part(b"other", OTHER)])) == ["ambiguous_format"]


def test_a_second_archive_that_names_the_first_ones_members_has_members_twice() -> None:
    """The second directory is valid, but there are other members before and after its members."""
    front = GOOD
    behind = local(**B.numbers({})) + DISK
    directory = entry(len(front), **B.numbers({}))
    whole = front + behind + directory + end(1, len(directory), len(front) + len(behind))
    assert checks(whole) == ["ambiguous_format"]


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"here": 1, "all": 1}, "ambiguous_format"),
        ({"here": 3, "all": 3}, "structure"),
        ({"here": 1}, "unsupported_subformat"),
        ({"disk": 1, "first": 1}, "unsupported_subformat"),
        ({"length": 46}, "ambiguous_format"),
        ({"length": 4000}, "structure"),
        ({"offset": 0}, "ambiguous_format"),
        ({"offset": 0xFFFFFFFF}, "structure"),
        ({"here": 0xFFFF, "all": 0xFFFF}, "structure"),
    ],
)
def test_an_end_record_that_does_not_fit_is_found(changes: dict[str, int], check: str) -> None:
    assert checks(zipped([A, B], **changes)) == [check]


def zip64(record: dict[str, int], *, entries: int = 0xFFFF, at: int = 0, padding: bytes = b"") -> bytes:
    """An archive with a ZIP64 record that contradicts the end record."""
    data = local(**A.numbers({})) + DISK
    directory = entry(0, **A.numbers({}))
    numbers = {
        "disk": 0,
        "first": 0,
        "here": 1,
        "all": 1,
        "length": len(directory),
        "offset": len(data),
    } | record
    place = len(data) + len(directory)
    return (
        data
        + directory
        + ZIP64_END.pack(b"PK\6\6", 44, 45, 45, *numbers.values())
        + padding
        + LOCATOR.pack(b"PK\6\7", 0, place + at, 1)
        + end(entries, len(directory), len(data))
    )


def test_a_zip64_record_that_nobody_needs_may_be_there() -> None:
    assert checks(zip64({})) == []
    assert checks(zip64({}, entries=1)) == []


def test_a_zip64_record_that_says_something_else_is_found() -> None:
    """Python always uses the ZIP64 record. Go uses it only if the end record's fields are all ones."""
    assert checks(zip64({"here": 0, "all": 0, "length": 0}, entries=1)) == ["ambiguous_format"]
    assert checks(zip64({}, at=-10)) == ["ambiguous_format"]
    assert checks(zip64({}, padding=bytes(8))) == ["ambiguous_format"]
    assert checks(zip64({"disk": 1})) == ["ambiguous_format"]


# Two headers

TWO_HEADERS = {
    "name": {"name": b"b.qcow2"},
    "name and its length": {"name": b"other.qcow2"},
    "method": {"method": 8},
    "checksum": {"crc": 7},
    "compressed size": {"packed": 7},
    "size": {"size": 7},
    "flags": {"flags": 1},
    "a descriptor": {"flags": 8},
    "a name in Unicode": {"extra": unicode_path(b"other", b"a.qcow2")},
}


@pytest.mark.parametrize("which", ["local", "directory"])
@pytest.mark.parametrize("name", TWO_HEADERS)
def test_headers_that_differ_are_found(name: str, which: str) -> None:
    facts = walk(image(zipped([replace(A, **{which: TWO_HEADERS[name]}), B])))
    assert not {one.check for one in facts.findings}.isdisjoint({"ambiguous_format", "structure"})


def test_a_directory_that_leads_into_a_member_is_found() -> None:
    assert checks(zipped([A, replace(B, directory={"offset": 100})])) == ["decompression_bomb"]
    assert checks(zipped([A, replace(B, before=b"xx", directory={"offset": len(A.stored) + 37})])) == [
        "structure"
    ]


@pytest.mark.parametrize(
    "wrong", [b"x", b"PK\7\10" + bytes(12), descriptor(DISK)[:-1], descriptor(DISK) + b"x"]
)
def test_a_descriptor_that_is_wrong_is_found(wrong: bytes) -> None:
    unknown = {"crc": 0, "packed": 0, "size": 0}
    assert checks(zipped([replace(A, flags=8, local=unknown, behind=wrong), B])) == ["ambiguous_format"]


def test_a_descriptor_that_a_stream_does_not_show_is_found() -> None:
    """A reader of a stream finds the end of stored data by the descriptor's mark.

    The ZIP64 field states its width.
    """
    unknown = {"crc": 0, "packed": 0, "size": 0}
    part = replace(A, flags=8, local=unknown)
    assert checks(zipped([replace(part, behind=descriptor(DISK)), B])) == []
    for behind in (descriptor(DISK, mark=False), descriptor(DISK, wide=True)):
        assert checks(zipped([replace(part, behind=behind), B])) == ["ambiguous_format"]
    large = {**unknown, "extra": field_of(1, bytes(16))}
    assert checks(zipped([replace(part, local=large, behind=descriptor(DISK)), B])) == ["ambiguous_format"]


# Between the members


def test_a_member_that_is_not_in_the_directory_is_found_wherever_it_lies() -> None:
    for data in (
        zipped([replace(A, before=HIDDEN), B]),
        zipped([A, replace(B, before=HIDDEN)]),
        zipped([A, B], between=HIDDEN),
        zipped([A, B], order=[0]),
        zipped([A, B], order=[1]),
    ):
        assert told(data) == [("ambiguous_format", Severity.CRITICAL)]


def test_what_lies_between_members_is_found() -> None:
    assert told(zipped([A, replace(B, before=b"x")])) == [("trailing_data", Severity.WARNING)]
    assert told(zipped([A, B], between=bytes(1000))) == [("trailing_data", Severity.WARNING)]


def test_members_in_one_place_are_a_bomb() -> None:
    """David Fifield's bombs use one kernel of data for all members."""
    assert checks(zipped([A, B], order=[0, 0])) == ["decompression_bomb"]
    kernel = Part(b"kernel", bytes(MIB), DEFLATED)
    outer = replace(kernel, name=b"outer", packed=local(**kernel.numbers({})) + kernel.stored)
    data = local(**outer.numbers({})) + outer.stored
    directory = entry(0, **outer.numbers({})) + entry(
        len(data) - len(kernel.stored) - 36, **kernel.numbers({})
    )
    assert checks(data + directory + end(2, len(directory), len(data))) == ["decompression_bomb"]


# Names


@pytest.mark.parametrize(
    "name",
    [
        *(b"/a", b"../a", b"a/../../b", b"a\\..\\b", b"C:\\a", b"c:a", b"\\\\host\\share", b"a\0.qcow2"),
        *(b"a/" * 300 + b"b", b"n" * 5000),
    ],
)
def test_names_that_lead_outside_are_found(name: bytes) -> None:
    assert told(zipped([replace(A, name=name)])) == [("member_path", Severity.CRITICAL)]
    assert "member_path" in checks(zipped([A, Part(name + b"/", b"")]))


@pytest.mark.parametrize(
    "name", ["größe.qcow2".encode(), "größe.qcow2".encode("cp437"), b"a b.qcow2", b".qcow2"]
)
def test_other_names_are_in_order(name: bytes) -> None:
    assert checks(zipped([replace(A, name=name)])) == []


def test_a_name_in_unicode_counts() -> None:
    old = "größe.qcow2".encode("cp437")
    facts = walk(image(zipped([replace(A, name=old, extra=unicode_path("größe.qcow2".encode(), old))])))
    assert (facts.findings, facts.members[0].name) == ((), "größe.qcow2")
    hostile = replace(A, name=old, extra=unicode_path(b"../a", old))
    assert checks(zipped([hostile])) == ["member_path"]
    for name in (A.name, "größe.qcow2".encode()):
        other = replace(A, name=name, extra=unicode_path(b"other", name))
        assert checks(zipped([other])) == ["ambiguous_format"]
    # The field is for another name, so readers ignore it.
    assert checks(zipped([replace(A, extra=unicode_path(b"other", b"x"))])) == []


@pytest.mark.parametrize("second", [b"a.qcow2", b"./a.qcow2", b".\\a.qcow2", b"A.QCOW2"])
def test_a_name_that_is_there_twice_is_found(second: bytes) -> None:
    assert checks(zipped([A, replace(B, name=second)])) == ["ambiguous_format"]


def test_a_name_that_is_anothers_in_unicode_is_found() -> None:
    old = "größe".encode("cp437")
    assert checks(zipped([A, replace(B, name=old, extra=unicode_path(A.name, old))])) == ["ambiguous_format"]


# Links


@pytest.mark.parametrize("method", [0, DEFLATED])
@pytest.mark.parametrize("target", [b"/etc/shadow", b"../a", b"C:\\a", b"a\0b"])
def test_a_link_that_leads_outside_is_found(target: bytes, method: int) -> None:
    assert checks(zipped([A, Part(b"link", target, method, mode=LINK)])) == ["member_path"]


@pytest.mark.parametrize("method", [0, DEFLATED])
def test_a_link_in_the_archive_is_in_order(method: int) -> None:
    facts = walk(image(zipped([A, Part(b"d/link", b"../a.qcow2", method, mode=LINK)])))
    assert (facts.findings, facts.details) == ((), {"other_files": 1})


def test_a_member_behind_a_link_is_found() -> None:
    assert checks(zipped([Part(b"d", b"a", mode=LINK), replace(A, name=b"d/a.qcow2")])) == ["member_path"]


@pytest.mark.parametrize(
    "link",
    [
        Part(b"l", b"a" * 5000, mode=LINK),
        Part(b"l", b"", mode=LINK),
        Part(b"l", b"a", 9, packed=b"a", mode=LINK),
        Part(b"l", b"a", 8, packed=b"\xff" * 9, mode=LINK),
        Part(b"l", b"a", 8, packed=deflated(b"a" * 100), mode=LINK),
    ],
)
def test_a_link_that_cannot_be_read_is_found(link: Part) -> None:
    assert "member_path" in checks(zipped([A, link]))


@pytest.mark.parametrize("kind", [0o020000, 0o060000, 0o140000])
def test_a_device_is_found(kind: int) -> None:
    assert checks(zipped([A, Part(b"d", b"", mode=kind | 0o644)])) == ["member_path"]


def test_what_zip_reads_from_a_pipe_is_a_file() -> None:
    """`producer | zip archive -` stores the mode of the pipe. Every reader extracts a file."""
    assert checks(zipped([Part(b"-", DISK, DEFLATED, mode=0o010600)])) == []


def test_a_link_is_a_file_as_well() -> None:
    """Python and Java write the link's target as the content of a file. That file can be a VMDK text."""
    text = b'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 9 FLAT "/etc/shadow" 0\n'
    facts = walk(image(zipped([A, Part(b"d/link", text, mode=LINK)])))
    assert [member.facts.format for member in facts.members] == ["qcow2", "vmdk"]


def test_a_folder_with_data_is_found() -> None:
    assert checks(zipped([A, Part(b"folder/", DISK)])) == ["ambiguous_format"]
    assert checks(zipped([A, Part(b"folder/", DISK, DEFLATED)])) == ["ambiguous_format"]
    assert checks(zipped([A, Part(b"folder", DISK, mode=0o040755)])) == ["ambiguous_format"]


def test_an_empty_folder_may_be_deflated() -> None:
    assert checks(zipped([A, Part(b"folder/", b"", DEFLATED)])) == []


# What cannot be read


@pytest.mark.parametrize(
    ("part", "check"),
    [
        (replace(A, flags=1), "encrypted"),
        (replace(A, flags=1 | 1 << 6), "encrypted"),
        (replace(A, flags=1 << 13), "encrypted"),
        (replace(A, flags=1, method=99, packed=DISK), "encrypted"),
        (replace(A, method=9, packed=DISK), "unsupported_subformat"),
        (replace(A, method=98, packed=DISK), "unsupported_subformat"),
        (replace(A, method=1234, packed=DISK), "unsupported_subformat"),
        (replace(A, directory={"disk": 1}), "unsupported_subformat"),
    ],
)
def test_what_cannot_be_read_is_named(part: Part, check: str) -> None:
    facts = walk(image(zipped([part, replace(B, name=b"c")])))
    assert [finding.check for finding in facts.findings] == [check]


# Extra fields


@pytest.mark.parametrize(
    ("extra", "check"),
    [
        (b"\0\0\0", None),
        (b"\0\0\0\0", None),
        (field_of(0x5455, b"\3" + bytes(8)) + field_of(0x7875, bytes(11)), None),
        (b"UT\x09", "structure"),
        (b"UT\x09\0\3", "structure"),
        (field_of(0x7075, b"") * 2, "ambiguous_format"),
    ],
)
def test_extra_fields_that_make_no_sense_are_found(extra: bytes, check: str | None) -> None:
    assert checks(zipped([replace(A, extra=extra), B])) == ([check] if check else [])


def test_a_size_that_is_nowhere_is_found() -> None:
    assert checks(zipped([replace(A, directory={"size": 0xFFFFFFFF}), B])) == ["structure"]
    assert checks(zipped([replace(A, directory={"packed": 0xFFFFFFFF}), B])) == ["structure"]


def test_numbers_that_a_zip64_field_has_are_read() -> None:
    extra = field_of(1, struct.pack("<QQ", len(DISK), len(DISK)))
    large = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "extra": extra}
    facts = walk(image(zipped([replace(A, local=large), replace(B, directory=large)])))
    assert (facts.findings, len(facts.members), facts.wholeness) == ((), 2, Wholeness.PROVEN)
    wrong = large | {"extra": field_of(1, struct.pack("<QQ", len(DISK) - 1, len(DISK)))}
    assert checks(zipped([replace(A, local=wrong), B])) == ["ambiguous_format"]


# Another format in front


def test_an_archive_that_is_another_format_is_two_at_once() -> None:
    """A stored disk begins after the header, so a partition table can be in the member's name."""
    from keyhole.builders import mbr_disk

    table = mbr_disk(MIB, [(0x83, 8, 100)]).read(446, 66)
    whole = image(GOOD)
    name = b"n" * 416
    data = zipped([Part(name + table, DISK)])
    assert data[510:512] == b"\x55\xaa"
    assert whole.size
    assert "ambiguous_format" in checks(data)


def test_python_reads_what_is_in_order() -> None:
    """Archives that the builder writes without changes are readable."""
    import io

    with zipfile.ZipFile(
        io.BytesIO(zipped([A, replace(B, method=8), Part(b"c/", b"")], comment=b"c"))
    ) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.qcow2", "b.qcow2", "c/"]


def member_of(facts: Facts) -> Facts:
    return facts.members[0].facts


def test_what_is_hidden_by_a_limit_is_not_called_whole() -> None:
    assert walk(Image.of(100 * MIB, [(0, b"PK\3\4")])).wholeness is Wholeness.UNCHECKED
