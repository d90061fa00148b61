"""The files that readers extract from a ZIP. If two readers extract different files, it is not in order.

Info-ZIP, Python, BusyBox, 7-Zip and bsdtar (from a file) read the directory. bsdtar reads the headers before
the members if the archive comes from a pipe.
"""

import shutil
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from keyhole.inspectors import Facts, Severity, Wholeness
from tests.inspectors.archives.walking import walk
from tests.inspectors.archives.zips import (
    DEFLATED,
    Part,
    descriptor,
    end,
    field_of,
    image,
    local,
    unicode_path,
    zipped,
)
from tests.tools import environment, need

#: Checksums of files by name; empty if the reader extracts nothing.
Files = Mapping[str, int]
COMMANDS = {
    "unzip": ["unzip", "-qq", "-o"],
    "7zz": ["7zz", "x", "-y", "-bso0", "-bse0"],
    "bsdtar": ["bsdtar", "-xf"],
    "busybox": ["busybox", "unzip", "-o", "-q"],
}
PYTHONS_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError, struct.error)
TEXT = b"hello world\n" * 20
DATA = (TEXT, b"x", b"", bytes(1000), b"PK\3\4" + bytes(40))
#: Files with these suffixes are members, whatever they contain.
NAMES = tuple(b"%s.raw" % name for name in (b"a", b"A", b"d/c", b"x\\y", "ü".encode(), b"./q", b"f", b"g"))
FOLDER = b"d/"
HIDDEN = local(**Part(b"hidden", b"secret").numbers({})) + b"secret"
UNKNOWN = {"crc": 0, "packed": 0, "size": 0}


def extracted(command: list[str], path: Path, *, piped: bool = False) -> Files:
    """The files that a command extracts."""
    need(command[0])
    folder = path.parent / "out"
    folder.mkdir()
    try:
        subprocess.run(
            [*command, "-" if piped else str(path)],
            cwd=folder,
            env=environment(),
            input=path.read_bytes() if piped else b"",
            capture_output=True,
            check=False,
        )
        found = [one for one in folder.rglob("*") if one.is_file()]
        return {name_of(str(one.relative_to(folder))): zlib.crc32(one.read_bytes()) for one in found}
    finally:
        shutil.rmtree(folder)


def by_python(path: Path) -> Files:
    """The files that Python reads."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = [one for one in archive.infolist() if not one.is_dir()]
            return {name_of(one.filename): zlib.crc32(archive.read(one)) for one in files}
    except PYTHONS_ERRORS:
        return {}


def name_of(name: str) -> str:
    """A name without irrelevant differences: its encoding, its separators, and a leading `./`."""
    with suppress(UnicodeError):
        name = name.encode("cp437").decode()
    return name.replace("\\", "/").removeprefix("./")


def readings(data: bytes, folder: Path) -> list[Files]:
    """The different sets of files that the readers extract. Readers that extract nothing are left out."""
    path = folder / "archive.zip"
    path.write_bytes(data)
    files = [extracted(command, path) for command in COMMANDS.values()]
    files += [extracted(COMMANDS["bsdtar"], path, piped=True), by_python(path)]
    return [one for number, one in enumerate(files) if one and one not in files[:number]]


def in_order(facts: Facts) -> bool:
    """Whether Keyhole reports nothing wrong with an archive."""
    findings = [*facts.findings, *(one for member in facts.members for one in member.facts.findings)]
    return facts.wholeness is Wholeness.PROVEN and all(one.severity is Severity.INFO for one in findings)


def some_part(choose: Random) -> Part:
    """A random member, valid or not."""
    name = choose.choice([*NAMES, FOLDER])
    data = b"" if name.endswith(b"/") else choose.choice(DATA)
    part = Part(name, data, choose.choice([0, DEFLATED]))
    if choose.random() < 0.3:
        behind = descriptor(data, len(part.stored), mark=choose.random() < 0.7, wide=choose.random() < 0.3)
        unknown = choose.choice([UNKNOWN, UNKNOWN, {}])
        part = replace(part, flags=8, local=unknown, behind=choose.choice([behind, behind, b""]))
    if choose.random() < 0.3:
        values: dict[str, list[int | bytes]] = {
            "name": [b"other", name + b"/"],
            "method": [0, DEFLATED],
            "crc": [0, 5],
            "packed": [0, 1, len(part.stored) + 1],
            "size": [0, 1, len(data) + 1],
            "flags": [0, 1, 2, 8, 0x800],
            "extra": [field_of(1, struct.pack("<QQ", 9, 9)), unicode_path(b"uni", name), b"\0"],
        }
        changed = choose.choice(list(values))
        change = {changed: choose.choice(values[changed])}
        which = choose.choice(["local", "directory", "both"])
        if which != "directory":
            part = replace(part, local={**part.local, **change})
        if which != "local":
            part = replace(part, directory=change)
    return replace(part, before=choose.choice([*[b""] * 18, b"x", HIDDEN]))


def some_archive(choose: Random) -> bytes:
    """A random archive, valid or not."""
    parts = [replace(some_part(choose), before=b""), *(some_part(choose) for _ in range(choose.randrange(3)))]
    told = {choose.choice(["here", "all", "length", "offset", "disk"]): choose.choice([0, 1, 2, 46, 0xFFFF])}
    comments = [b"", b"", b"", b"c", end(0, 0, 0), end(1, 46, 0) + b"x", b"z" * 300]
    data = zipped(
        parts,
        comment=choose.choice(comments),
        between=choose.choice([*[b""] * 9, b"gap"]),
        order=choose.choice([(), (), (), (0,)]),
        **(told if choose.random() < 0.1 else {}),
    )
    return data + choose.choice([*[b""] * 9, b"t", bytes(100), zipped([Part(b"tail", b"tail")])])


@pytest.mark.parametrize("number", [10, pytest.param(600, marks=pytest.mark.slow)])
def test_an_archive_in_order_is_the_same_to_all_readers(number: int, tmp_path: Path) -> None:
    choose = Random(number)  # noqa: S311 - to choose archives, the same in every run
    seen = 0
    while seen < number:
        data = some_archive(choose)
        if in_order(walk(image(data))):
            seen += 1
            assert len(readings(data, tmp_path)) <= 1, data


#: Archives that readers extract in different ways.
DIFFERENT: dict[str, Callable[[], bytes]] = {
    "another member in front": lambda: HIDDEN + zipped([Part(b"a", TEXT)]),
    "another name before the data": lambda: zipped([Part(b"a", TEXT, local={"name": b"b"})]),
    "a member that the directory lacks": lambda: zipped([Part(b"a", TEXT), Part(b"b", TEXT, before=HIDDEN)]),
    "two archives in a row": lambda: zipped([Part(b"a", TEXT)]) + zipped([Part(b"b", TEXT)]),
    "other flags before the data": lambda: zipped([Part(b"a", TEXT), Part(b"b", TEXT, local={"flags": 2})]),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_readers_extract_differently_is_found(name: str, tmp_path: Path) -> None:
    data = DIFFERENT[name]()
    assert len(readings(data, tmp_path)) > 1
    assert not in_order(walk(image(data)))
