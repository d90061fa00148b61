"""The encodings of an OVF descriptor: Keyhole reads common ones, and reports no other as damage."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import tar
from keyhole.inspectors import Facts, Severity
from keyhole.inspectors.archives.ovf.descriptor import OVFError, parse
from keyhole.inspectors.archives.ovf.text import EncodingError, decode
from tests.inspectors.archives.appliances.building import (
    DISK,
    DISK_ELEMENT,
    FILE,
    appliance,
    described,
    descriptor,
    plain,
)
from tests.inspectors.archives.walking import walk

UNSUPPORTED = [("unsupported_subformat", Severity.WARNING)]
STRUCTURE = [("structure", Severity.ERROR)]
PARENT = [("parent_image", Severity.CRITICAL)]

#: Encodings by their names in XML: a text in each, and Python's name if it is different.
ENCODINGS = [
    ("Shift_JIS", "日本語ソ表", None),
    ("Shift_JIS", "①㈱", "cp932"),  # from NEC and IBM; Windows writes these characters under that name
    ("Windows-31J", "①㈱", "cp932"),
    ("EUC-JP", "日本語", None),
    ("GBK", "中文能", None),
    ("GB2312", "中文", None),
    ("GB2312", "镕", "gbk"),  # not in GB 2312
    ("gb18030", "中文\U00020000", None),
    ("Big5", "中文功", None),
    ("EUC-KR", "한국어", None),
    ("ks_c_5601-1987", "똠", "cp949"),  # not in KS X 1001
    ("ISO-8859-1", "é", None),
    ("ISO-8859-2", "ł", None),
    ("ISO-8859-15", "€", None),
    ("windows-1250", "ł", None),
    ("windows-1251", "ж", None),
    ("windows-1252", "€", None),
    ("windows-1256", "ش", None),
    ("KOI8-R", "ж", None),
    ("IBM850", "é", None),
    ("macintosh", "é", "mac-roman"),
    ("TIS-620", "ไ", None),
    ("US-ASCII", "e", None),
    ("UTF-8", "é中", None),
    ("utf8", "é中", None),
]
#: Encodings whose text is unreadable to a reader that does not support them, or that do not exist.
OTHERS = [
    "klingon",
    "UTF-7",
    "ISO-2022-JP",
    "HZ-GB-2312",
    "IBM037",
    "IBM500",
    "unicode_escape",
    "rot13",
    "zlib",
    "x",
]


def in_encoding(name: str, said: str, codec: str | None = None, text: str | None = None) -> bytes:
    """A descriptor that states this encoding. Its disk's file has this text in its name."""
    stated = (text or descriptor()).replace("UTF-8", name).replace("disk1.vmdk", f"{said}.vmdk")
    return stated.encode(codec or name)


def inspected(raw: bytes, said: str) -> Facts:
    return walk(tar([("box.ovf", plain(raw)), (f"{said}.vmdk", DISK)]))


@pytest.mark.parametrize(("name", "said", "codec"), ENCODINGS)
def test_an_encoding_that_keeps_ascii_is_read(name: str, said: str, codec: str | None) -> None:
    facts = inspected(in_encoding(name, said, codec), said)
    assert (facts.findings, facts.details["disks"]) == ((), 1)
    assert [one.facts.format for one in facts.members] == ["vmdk"]


@pytest.mark.parametrize(("name", "said", "codec"), ENCODINGS)
def test_what_is_hostile_is_found_in_every_encoding(name: str, said: str, codec: str | None) -> None:
    disk = DISK_ELEMENT.replace("ovf:fileRef", 'ovf:parentRef="base" ovf:fileRef')
    raw = in_encoding(name, said, codec, descriptor(disk=disk))
    assert [one.check for one in inspected(raw, said).findings] == ["parent_image"]


@pytest.mark.parametrize("name", OTHERS)
def test_an_encoding_that_is_not_supported_is_said_so(name: str) -> None:
    facts = walk(appliance(descriptor().replace("UTF-8", name)))
    assert [(one.check, one.severity) for one in facts.findings] == UNSUPPORTED
    assert name in facts.findings[0].message


def test_ebcdic_is_not_supported() -> None:
    assert described(descriptor().replace("UTF-8", "IBM037").encode("cp037")) == UNSUPPORTED


@pytest.mark.parametrize(
    ("name", "wrong"), [("Shift_JIS", b"\x85\xff"), ("GBK", b"\x80\xff"), ("EUC-KR", b"\xff")]
)
def test_what_is_not_valid_by_the_tables_here_is_not_decided(name: str, wrong: bytes) -> None:
    """Other readers have other tables, so the text can be valid for them."""
    assert described(in_encoding(name, "disk1").replace(b"A machine", wrong)) == UNSUPPORTED


def test_what_is_no_utf_8_is_a_contradiction() -> None:
    assert described(descriptor().encode().replace(b"A machine", b"\xff\xfe")) == STRUCTURE
    undeclared = descriptor().partition("\n")[2].encode("latin-1")
    assert described(undeclared.replace(b"A machine", b"\xe9")) == STRUCTURE


# Byte order marks, and encodings with more than one byte per character


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("declaration", [True, False])
def test_wide_encodings_are_known_by_their_beginning(codec: str, *, mark: bool, declaration: bool) -> None:
    text = descriptor().replace("UTF-8", codec[:6].upper())
    raw = (text if declaration else text.partition("\n")[2]).encode(codec)
    marks = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    marks |= {"utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE}
    facts = walk(appliance((marks[codec] if mark else b"") + raw))
    assert (facts.findings, facts.details["disks"]) == ((), 1)


@pytest.mark.parametrize(
    ("declared", "codec"),
    [
        ("UTF-8", "utf-16"),
        ("ISO-8859-1", "utf-16"),
        ("UTF-16", "utf-8"),
        ("UTF-16", "utf-8-sig"),
        ("GBK", "utf-8-sig"),
    ],
)
def test_a_mark_or_the_bytes_count_and_not_the_declaration(declared: str, codec: str) -> None:
    """PowerShell writes UTF-16 and declares UTF-8. Some readers refuse such a text."""
    facts = walk(appliance(descriptor().replace("UTF-8", declared).encode(codec)))
    assert [(one.check, one.severity) for one in facts.findings] == [("structure", Severity.INFO)]
    assert facts.details["disks"] == 1
    disk = DISK_ELEMENT.replace("ovf:fileRef", 'ovf:parentRef="base" ovf:fileRef')
    assert described(descriptor(disk=disk).replace("UTF-8", declared).encode(codec)) == PARENT


def test_a_text_that_says_two_things_in_two_encodings_is_two() -> None:
    """Byte order mark and declaration contradict each other.

    The descriptor names one file if it is read in the first encoding, and another file in the second.
    """
    file = FILE.replace("disk1.vmdk", "é.vmdk")
    text = descriptor(file=file).replace("UTF-8", "ISO-8859-1").encode("utf-8-sig")
    facts = walk(tar([("box.ovf", plain(text)), ("é.vmdk", DISK), ("Ã©.vmdk", DISK)]))
    assert [(one.check, one.severity) for one in facts.findings] == [("ambiguous_format", Severity.CRITICAL)]


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-32"])
def test_two_marks_are_one_too_many(codec: str) -> None:
    raw = ("\ufeff" + descriptor()).encode("utf-8-sig" if codec == "utf-8" else codec)
    assert described(raw) == STRUCTURE


def test_zeros_behind_the_text_are_padding() -> None:
    """VirtualBox ignores everything after the first zero."""
    assert described(descriptor() + "\0" * 100) == []
    assert described(descriptor() + "\0<Envelope/>") == STRUCTURE


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    for data in (raw, b'<?xml version="1.0" encoding="' + raw, codecs.BOM_UTF8 + raw, b"<\0" + raw):
        try:
            assert isinstance(decode(data).text, str)
        except EncodingError as error:
            assert str(error)  # noqa: PT017 - a refusal is correct too
        try:
            parse(data)
        except OVFError as error:
            assert error.finding.message.isprintable()  # noqa: PT017
