"""Archives in which readers list different members, and whether Keyhole reports them.

If GNU tar and Python disagree about an archive, it is never in order. The tests run both. Other readers'
differences are listed here as facts about bsdtar 3.6.2, BusyBox 1.35, Go 1.19, npm's tar 7 and tar-stream 3.
A slow test runs all of them on archives that are in order.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from keyhole.builders import Image, tar_header
from keyhole.builders.tar import BLOCK
from tests.inspectors.archives import readers
from tests.inspectors.archives.blocks import (
    END,
    archive,
    binary,
    extended,
    file,
    gnu,
    long_name,
    old,
    old_sparse,
    patched,
    record,
    sized,
)
from tests.inspectors.archives.readers import by_gnu_tar, by_tarfile
from tests.inspectors.archives.walking import walk
from tests.tools import need

DATA = b"x" * 700
#: A member that only some readers list: those that do not skip the data in front of it.
HIDDEN = tar_header(b"hidden", 3) + b"abc".ljust(BLOCK, b"\0")
FIRST, LAST = file(b"first", DATA), file(b"last", DATA)

#: Archives for which GNU tar and Python list different members.
DIFFERENT = {
    "an old file that is a folder": archive(tar_header(b"d/", len(HIDDEN), kind=b"\0"), HIDDEN, *LAST),
    "a symbolic link with data": archive(
        tar_header(b"l", len(HIDDEN), kind=b"2", link=b"last"), HIDDEN, *LAST
    ),
    "a device with data": archive(tar_header(b"l", len(HIDDEN), kind=b"3"), HIDDEN, *LAST),
    "a FIFO with data": archive(tar_header(b"l", len(HIDDEN), kind=b"6"), HIDDEN, *LAST),
    "two long names": archive(*long_name(b"one"), *long_name(b"two"), *LAST),
    "two extended headers": archive(*extended((b"path", b"one")), *extended((b"path", b"two")), *LAST),
    "two kinds of names": archive(*long_name(b"one"), *extended((b"path", b"two")), *LAST),
    "size in another notation": archive(sized(tar_header(b"a"), b"0o17"), DATA[:15], *LAST),
    "size with an underscore": archive(sized(tar_header(b"a"), b"1_0"), DATA[:8], *LAST),
    "size with a plus": archive(sized(tar_header(b"a"), b"+10"), DATA[:8], *LAST),
    "size of blanks": archive(sized(tar_header(b"a"), b" " * 12), *LAST),
    "size and text": archive(sized(tar_header(b"a"), b"10 7"), DATA[:8], *LAST),
    "folder of a name that is GNU's time": archive(
        gnu(tar_header(b"a", 3, prefix=b"1234567")), b"abc", *LAST
    ),
    "folder of a name in an old header": archive(patched(old(tar_header(b"a", 3)), 345, b"d"), b"abc", *LAST),
    "an owner that is no number": archive(
        *FIRST, patched(tar_header(b"a", 3), 108, b"zzzzzzz"), b"abc", *LAST
    ),
    "a device number that is none": archive(
        *FIRST, patched(tar_header(b"a", 3), 329, b"zzzzzzz"), b"abc", *LAST
    ),
    "a block of no header": archive(*FIRST, b"g" * BLOCK, *LAST),
    "a comment for all at the end": archive(*FIRST, *extended((b"comment", b"c"), kind=b"g")),
    "an announcement at the end": archive(*FIRST, *extended((b"path", b"two"))),
    "a name with a NUL": archive(*extended((b"path", b"a\0b")), *LAST),
}
#: Archives for which GNU tar and Python list the same members, and other readers do not.
DIFFERENT_TO_OTHERS = {
    "a file that is a folder": archive(tar_header(b"d/", len(HIDDEN)), HIDDEN, *LAST),
    "a folder with data": archive(tar_header(b"d/", len(HIDDEN), kind=b"5"), HIDDEN, *LAST),
    "a hard link with data": archive(
        *FIRST, tar_header(b"l", len(HIDDEN), kind=b"1", link=b"first"), HIDDEN, *LAST
    ),
    "a name in Solaris's extended header": archive(*extended((b"path", b"two"), kind=b"X"), *LAST),
    "a file with a link's target": archive(*FIRST, tar_header(b"a", 3, link=b"first"), b"abc", *LAST),
    "a file with a link's long target": archive(*long_name(b"/etc/passwd", kind=b"K"), *LAST),
    "a folder with a link's target": archive(tar_header(b"d/", kind=b"5", link=b"first"), *LAST),
    "an extended header before a long name": archive(*extended((b"path", b"two")), *long_name(b"one"), *LAST),
    "a name for all": archive(*extended((b"path", b"two"), kind=b"g"), *LAST),
    "a size for all": archive(*extended((b"size", b"1024"), kind=b"g"), *FIRST, *LAST),
    "a size that needs no extended header": archive(
        *extended((b"size", b"%d" % len(HIDDEN))), tar_header(b"a"), HIDDEN, *LAST
    ),
    "an extended size that is smaller": archive(
        *extended((b"size", b"0")), tar_header(b"a", len(HIDDEN)), HIDDEN, *LAST
    ),
    "an empty name": archive(*FIRST, tar_header(b"", 3), b"abc", *LAST),
    "an empty path": archive(*extended((b"path", b"")), *LAST),
    "one block of zeros between": archive(*FIRST, bytes(BLOCK), *LAST),
    "an archive behind the end": archive(*FIRST, END, *LAST),
    "a larger size to libarchive": archive(*extended((b"SCHILY.realsize", b"5000")), *LAST),
    "a smaller size to libarchive": archive(*extended((b"SCHILY.realsize", b"10")), *LAST),
    "a record in a record": archive(*extended((b"comment", b"a\n9 size=0")), *LAST),
    "a record in a record, without a space": archive(*extended((b"comment", b"a\n9xsize=0")), *LAST),
    "a record in a record, behind a zero": archive(*extended((b"comment", b"a\n09size=0")), *LAST),
    "a record in a record, of other bytes": archive(*extended((b"comment", b"a\n12 path=\xff")), *LAST),
    "a record in a record for all": archive(*extended((b"comment", b"a\n9 size=0"), kind=b"g"), *LAST),
    "a name of two lines": archive(*extended((b"path", b"a\nb")), *LAST),
    "a length with a zero": archive(tar_header(b"x", 13, kind=b"x"), b"013 path=two\n", *LAST),
    "a key behind a space": archive(*extended((b" path", b"two")), *LAST),
    "a time that is none": archive(*extended((b"mtime", b"1,5")), *LAST),
    "an owner below zero": archive(*extended((b"uid", b"-5")), *LAST),
    "a NUL between records": archive(
        tar_header(b"x", 30, kind=b"x"),
        (record(b"path", b"one") + b"\0" + record(b"path", b"two")).ljust(30, b"\0"),
        *LAST,
    ),
    "a sparse file whose map ends twice": archive(
        patched(old_sparse(b"s", 5000, [(512, 512)], 512)[0], 386 + 48, binary(3000) + b"%011o\0" % 100),
        DATA[:512],
        *LAST,
    ),
    "a sparse file with a part of a block": archive(
        *old_sparse(b"s", 5000, [(512, 100), (3000, 512)], 612), DATA[:612], *LAST
    ),
}
#: Archives for which all readers list the same members.
SAME = {
    "plain": archive(*FIRST, *LAST),
    "old": archive(old(tar_header(b"a", 3)), b"abc", *LAST),
    "contiguous": archive(*file(b"a", DATA, kind=b"7"), *LAST),
    "binary size": archive(sized(tar_header(b"a"), binary(8)), DATA[:8], *LAST),
    "no size": archive(sized(tar_header(b"a"), bytes(12)), *LAST),
    "a folder": archive(tar_header(b"d/", kind=b"5"), *LAST),
    "a long name": archive(*long_name(b"l" * 150), *FIRST, *LAST),
    "an extended name": archive(*extended((b"path", b"p")), *FIRST, *LAST),
    "an extended name, twice in one header": archive(
        *extended((b"path", b"p"), (b"path", b"q")), *FIRST, *LAST
    ),
    "a comment in Solaris's extended header": archive(*extended((b"comment", b"c"), kind=b"X"), *LAST),
    "attributes of several lines": archive(*extended((b"SCHILY.xattr.user.a", b"a\n5 b=c\n\0")), *LAST),
    "a time before 1970": archive(*extended((b"mtime", b"-1.5"), (b"uid", b"3000000")), *LAST),
    "the size twice": archive(*extended((b"SCHILY.realsize", b"700")), *LAST),
    "a comment for all": archive(*extended((b"comment", b"c"), kind=b"g"), *FIRST, *LAST),
    "a sparse file": archive(*old_sparse(b"s", 5000, [(512, 512), (3000, 100)], 612), DATA[:612], *LAST),
    "one block of zeros": archive(*FIRST, *LAST, end=bytes(BLOCK)),
    "without an end": archive(*FIRST, *LAST, end=b""),
}
#: Parts of hostile archives, in any order.
PARTS: tuple[Callable[[Random], tuple[bytes | Image, ...]], ...] = (
    lambda choose: file(b"f%d" % choose.randrange(5), DATA[: choose.randrange(700)]),
    lambda choose: file(
        b"k", DATA, kind=choose.choice([b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"D", b"Q"])
    ),
    lambda choose: (
        tar_header(b"d/", choose.choice([0, 0, len(HIDDEN)]), kind=choose.choice([b"0", b"5"])),
        HIDDEN,
    ),
    lambda choose: long_name(b"long%d" % choose.randrange(3), kind=choose.choice([b"L", b"K"])),
    lambda choose: extended((b"path", b"p%d" % choose.randrange(3)), kind=choose.choice([b"x", b"X", b"g"])),
    lambda choose: extended((b"size", b"%d" % choose.choice([0, 512, 700, 1024]))),
    lambda choose: extended((b"comment", b"none"), kind=choose.choice([b"x", b"g"])),
    lambda choose: (
        *old_sparse(b"s", 2000, [(0, 512), (1024, choose.choice([0, 200]))], 712),
        DATA[:512],
        DATA[:200],
    ),
    lambda choose: (bytes(BLOCK * choose.randrange(1, 3)),),
    lambda _: (HIDDEN,),
)


@pytest.fixture(autouse=True)
def _needs_gnu_tar() -> None:
    need("tar")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path at which a test writes the archive."""
    return tmp_path / "archive.tar"


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_two_readers_see_differently_is_found(path: Path, name: str) -> None:
    DIFFERENT[name].write_to(path)
    assert by_gnu_tar(path) != by_tarfile(path)
    assert walk(DIFFERENT[name]).findings


@pytest.mark.parametrize("name", DIFFERENT_TO_OTHERS)
def test_and_so_is_what_only_others_see_differently(name: str) -> None:
    assert walk(DIFFERENT_TO_OTHERS[name]).findings


@pytest.mark.parametrize("name", SAME)
def test_what_all_see_the_same_is_in_order(path: Path, name: str) -> None:
    SAME[name].write_to(path)
    facts = walk(SAME[name])
    listed = by_gnu_tar(path)
    assert listed == by_tarfile(path)
    assert listed is not None
    assert (facts.findings, facts.details["other_files"]) == ((), len(listed))


@pytest.mark.parametrize("seed", range(4))
def test_no_archive_is_in_order_that_readers_see_differently(path: Path, seed: int) -> None:
    choose = Random(seed)  # noqa: S311 - to choose parts, the same in every run
    in_order = 0
    for _ in range(60):
        parts = [piece for _ in range(choose.randrange(1, 6)) for piece in choose.choice(PARTS)(choose)]
        image = archive(*parts, end=choose.choice([END, END, b"", bytes(10240)]))
        if choose.random() < 0.3:
            at = choose.randrange(image.size // BLOCK) * BLOCK + choose.choice(
                [0, 100, 124, 135, 156, 257, 345]
            )
            image = image.patched(at, choose.choice([b"\0", b"/", b" ", b"7", b"\x80", b"L"]))
        facts = walk(image)
        if facts.format is None or facts.findings:
            continue
        in_order += 1
        image.write_to(path)
        listed = by_gnu_tar(path)
        assert listed == by_tarfile(path), parts
        assert listed is not None
        # Keyhole treats more kinds of headers as members than GNU tar and Python do.
        assert facts.details["other_files"] >= len(listed)
    assert in_order


#: Kinds of headers that some readers ignore or list as files: folders of GNU's incremental backups, Solaris's
#: extended headers, undefined letters.
UNKNOWN_KINDS = {b"D", b"X", b"Q"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_in_an_archive_in_order_no_reader_sees_another_file(tmp_path: Path, seed: int) -> None:
    """A reader can stop early or omit members that it does not support.

    tar-stream does not support sparse files.
    """
    readers.need("bsdtar", "busybox")
    readers.need_node_modules()
    choose = Random(seed)  # noqa: S311 - to choose parts, the same in every run
    images = [image for image in SAME.values() if UNKNOWN_KINDS.isdisjoint(kinds(image))]
    while len(images) < 150:
        parts = [piece for _ in range(choose.randrange(1, 6)) for piece in choose.choice(PARTS)(choose)]
        image = archive(*parts, end=choose.choice([END, b"", bytes(10240)]))
        if choose.random() < 0.5:
            at = choose.randrange(image.size // BLOCK) * BLOCK + choose.choice(
                [0, 99, 100, 124, 135, 136, 147, 148, 155, 156, 157, 257, 263, 265, 329, 345]
            )
            image = image.patched(at, choose.choice([b"\0", b"/", b" ", b"7", b"\x80", b"L"]))
        facts = walk(image)
        if facts.format and not facts.findings and UNKNOWN_KINDS.isdisjoint(kinds(image)):
            images.append(image)
    paths = [image.write_to(tmp_path / f"{number}.tar") for number, image in enumerate(images)]
    go = readers.by_go(readers.built_by_go(tmp_path), paths)
    for image, path, node, by_go in zip(images, paths, readers.by_node(paths), go, strict=True):
        listings = {
            "bsdtar": readers.by_bsdtar(path),
            "busybox": readers.by_busybox(path),
            "go": by_go,
            **node,
        }
        seen = {*(by_gnu_tar(path) or [])}
        for reader, listing in listings.items():
            files = {one for one in listing or [] if not one[0].endswith("/")}
            sparse = reader == "tar-stream" and b"S" in kinds(image)
            assert sparse or files <= seen, (reader, path)


def kinds(image: Image) -> set[bytes]:
    """The kinds of the blocks in an archive that look like headers."""
    blocks = [image.read(at, BLOCK) for at in range(0, image.size, BLOCK)]
    return {block[156:157] for block in blocks if block[257:262] == b"ustar"}
