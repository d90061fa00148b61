"""The notation of numbers in a tar header: readers disagree about some, and Keyhole reports these."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyhole.builders import Image, tar_header
from keyhole.builders.tar import summed
from keyhole.inspectors.archives.tar.header import begins_archive
from tests.inspectors.archives import readers
from tests.inspectors.archives.blocks import archive, file, patched
from tests.inspectors.archives.walking import walk

DATA = b"x" * 700
FIRST, LAST = file(b"first", DATA), file(b"last", b"end")


@dataclass(frozen=True)
class Field:
    """A number in a header: its offset and length, and a valid value."""

    at: int
    length: int
    value: int


SIZE = Field(124, 12, 8)
FIELDS = {
    "mode": Field(100, 8, 0o644),
    "owner": Field(108, 8, 0),
    "group": Field(116, 8, 8),
    "size": SIZE,
    "size of nothing": Field(124, 12, 0),
    "time": Field(136, 12, 0o123),
    "device": Field(329, 8, 0),
}
CHECKSUM = Field(148, 8, 0)


def spellings(value: int, length: int) -> Mapping[str, bytes]:
    """The notations of a number, by name."""
    octal = b"%o" % value
    digits = octal.rjust(length - 2, b"0")
    return {
        "digits, NUL": b"0" + digits + b"\0",
        "digits": b"00" + digits,
        "digits, space": b"0" + digits + b" ",
        "digits, space, NUL": digits + b" \0",
        "digits, NUL, space": digits + b"\0 ",
        "digits, NUL, digit": digits + b"\x007",
        "short, NULs": octal.ljust(length, b"\0"),
        "short, spaces": octal.ljust(length),
        "short, space, NULs": (octal + b" ").ljust(length, b"\0"),
        "short, spaces, NUL": octal.ljust(length - 1) + b"\0",
        "short, NUL, text": (octal + b"\0x").ljust(length, b"\0"),
        "spaces, short": octal.rjust(length),
        "spaces, short, NUL": octal.rjust(length - 1) + b"\0",
        "spaces, short, space, NUL": octal.rjust(length - 2) + b" \0",
        "tab, digits": b"\t" + digits + b"\0",
        "NUL, digits": b"\0" + digits + b"\0",
        "NUL, digits to the end": b"\x000" + digits,
        "NULs": bytes(length),
        "spaces": b" " * length,
        "spaces, NUL": b" " * (length - 1) + b"\0",
        "space, NUL, text": b" \0x".ljust(length, b"\0"),
        "minus": b"-" + digits + b"\0",
        "a minus alone": b"-".ljust(length, b"\0"),
        "plus": b"+" + digits + b"\0",
        "space between": b"1 0".ljust(length, b"\0"),
        "0o": b"0o" + digits[1:] + b"\0",
        "0x": b"0x" + digits[1:] + b"\0",
        "underscore": (octal + b"_0").ljust(length, b"\0"),
        "nine": (octal + b"9").ljust(length, b"\0"),
        "letters": b"z" * (length - 1) + b"\0",
        "text behind": (octal + b"x").ljust(length, b"\0"),
        "text behind a space": (octal + b" x").ljust(length, b"\0"),
        "text behind a space and a NUL": (octal + b" \0x").ljust(length, b"\0"),
        "tab behind": (octal + b"\t").ljust(length, b"\0"),
        "line break behind": (octal + b"\n").ljust(length, b"\0"),
        "high byte behind": digits + b"\xa0\0",
        "binary": b"\x80" + value.to_bytes(length - 1, "big"),
        "binary, 81": b"\x81" + value.to_bytes(length - 1, "big"),
        "binary, C0": b"\xc0" + value.to_bytes(length - 1, "big"),
        "binary, too large": b"\x80" + b"\x7f" * (length - 1),
        "binary, negative": b"\xff" * (length - 1) + b"\xf8",
        "binary, FF and not negative": b"\xff" + bytes(length - 2) + b"\1",
        "base 64": b"+" + b"A" * (length - 2) + b"I",
    }


#: Notations that writers use. Every reader reads them alike.
READ = {
    "digits, NUL",
    "digits",
    "digits, space",
    "digits, space, NUL",
    "digits, NUL, space",
    "digits, NUL, digit",
    "short, NULs",
    "short, spaces",
    "short, space, NULs",
    "short, spaces, NUL",
    "short, NUL, text",
    "spaces, short",
    "spaces, short, NUL",
    "spaces, short, space, NUL",
    "binary",
}
READ_WHERE_IT_IS_NO_SIZE = READ | {
    "NUL, digits",
    "NUL, digits to the end",
    "NULs",
    "spaces",
    "spaces, NUL",
    "binary, negative",
}
READ_OF = dict.fromkeys(FIELDS, READ_WHERE_IT_IS_NO_SIZE) | {
    "size": READ,
    "size of nothing": READ_WHERE_IT_IS_NO_SIZE - {"spaces", "binary, negative"},
}
#: npm reads a checksum up to the first NUL or space, wherever that is.
READ_OF_CHECKSUM = READ - {"digits", "spaces, short", "short, NUL, text", "binary"}
#: GNU tar warns about blanks in these fields, and lists the member like the other readers.
READ_WITH_A_COMPLAINT = {"mode: spaces", "time: spaces"}


def spelled(field: Field, text: bytes) -> bytes:
    """The header of a file `odd` with one field in this notation."""
    size = field.value if field.at == SIZE.at else SIZE.value
    return patched(tar_header(b"odd", size), field.at, text)


def with_field(name: str, spelling: str) -> Image:
    """An archive with one number in this notation."""
    field = FIELDS[name]
    content = DATA[: field.value if field.at == SIZE.at else SIZE.value]
    header = spelled(field, spellings(field.value, field.length)[spelling])
    return archive(*FIRST, header, *([content] if content else []), *LAST)


def with_checksum(spelling: str) -> Image:
    """An archive with one checksum in this notation."""
    header = summed(tar_header(b"odd", SIZE.value))
    text = spellings(int(header[148:154], 8), CHECKSUM.length)[spelling]
    return archive(*FIRST, header[:148] + text + header[156:], DATA[: SIZE.value], *LAST)


SPELLINGS = list(spellings(0, 12))
ARCHIVES = {
    **{f"{name}: {spelling}": with_field(name, spelling) for name in FIELDS for spelling in SPELLINGS},
    **{f"checksum: {spelling}": with_checksum(spelling) for spelling in SPELLINGS},
}
IN_ORDER = {
    *(f"{name}: {spelling}" for name, read in READ_OF.items() for spelling in read),
    *(f"checksum: {spelling}" for spelling in READ_OF_CHECKSUM),
}


def test_a_spelling_that_all_readers_read_alike_is_read() -> None:
    for name in sorted(IN_ORDER):
        facts = walk(ARCHIVES[name])
        assert (facts.findings, facts.details["other_files"]) == ((), 3), name


def test_a_spelling_that_they_do_not_is_found() -> None:
    found = {
        name: tuple(finding.check for finding in walk(ARCHIVES[name]).findings)
        for name in ARCHIVES.keys() - IN_ORDER
    }
    known = {("structure",), ("checksum_mismatch",), ("ambiguous_format",)}
    assert {name: checks for name, checks in found.items() if checks not in known} == {}


def test_a_checksum_of_signed_bytes_is_one_to_some_readers() -> None:
    """BusyBox and npm accept only the sum of unsigned bytes."""
    header = tar_header("größe".encode(), len(DATA))
    signed = sum(byte - 256 * (byte > 127) for byte in header[:148] + b" " * 8 + header[156:])
    image = archive(header[:148] + b"%06o\0 " % signed + header[156:], DATA)
    assert [finding.check for finding in walk(image).findings] == ["ambiguous_format"]


@pytest.mark.parametrize(
    "spelling",
    ["plus", "0o", "NUL, digits", "tab, digits", "text behind a space", "nine", "underscore", "binary"],
)
def test_a_checksum_that_one_reader_accepts_begins_an_archive(spelling: str) -> None:
    header = patched(tar_header(b"disk", 3), 257, bytes(255))
    text = spellings(int(header[148:154], 8), CHECKSUM.length)[spelling]
    assert begins_archive(header[:148] + text + header[156:])


def test_a_block_of_zeros_begins_none() -> None:
    assert not begins_archive(bytes(512))
    assert not begins_archive(bytes(510) + b"\x55\xaa")


@pytest.mark.slow
def test_the_readers_agree_on_what_is_read_and_on_nothing_else(tmp_path: Path) -> None:
    """Keyhole reports a notation only if at least one reader refuses it or reads another number."""
    readers.need("tar", "bsdtar", "busybox")
    readers.need_node_modules()
    paths = {name: tmp_path / f"{number}.tar" for number, name in enumerate(ARCHIVES)}
    for name, path in paths.items():
        ARCHIVES[name].write_to(path)
    by_node = list(readers.by_node(paths.values()))
    by_go = readers.by_go(readers.built_by_go(tmp_path), list(paths.values()))
    agreed = set()
    for (name, path), node, go in zip(paths.items(), by_node, by_go, strict=True):
        alone = [
            read(path)
            for read in (readers.by_gnu_tar, readers.by_tarfile, readers.by_bsdtar, readers.by_busybox)
        ]
        listings = [*alone, *node.values(), go]
        if listings[0] and len(listings[0]) == 3 and all(one == listings[0] for one in listings):
            agreed.add(name)
    assert agreed == IN_ORDER - READ_WITH_A_COMPLAINT
