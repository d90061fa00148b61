"""Which disk each installed reader opens in a file, its size, and the other files that it names.

Partition tables, volumes, discs and fixed VHDs use the object's own bytes, so they are all the same disk,
`raw`. `qemu-img -f raw` opens every file, so it is not used.
"""

import json
import re
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from tests.tools import environment

#: The timeout of each reader in seconds.
SECONDS = 240
#: The external tools that are used. Python's own modules are used too.
READERS = ("qemu-img", "blkid", "bsdtar", "tar", "7zz", "unzip", "zstd", "gzip", "xz", "lz4", "bzip2")
#: How many bytes of a decompressor's output are compared.
COMPARED = 4096
#: QEMU's format names, which this module uses for disks. A fixed VHD is `raw`, because its disk is the
#: object's own bytes.
QEMU_FORMATS = (
    "qcow2",
    "qcow",
    "qed",
    "vdi",
    "vmdk",
    "vpc",
    "vhdx",
    "parallels",
    "bochs",
    "cloop",
    "luks",
    "dmg",
)
RAW = "raw"
#: 7-Zip's names for archives and streams. Other readers are more reliable for disks and volumes.
SEVEN_ZIP = {"7z", "zip", "gzip", "xz", "bzip2", "tar", "cpio", "lzma", "Rar", "Rar5", "Xar", "wim"}
STREAMS = {"gzip", "xz", "bzip2", "lzma"}


class Opened(NamedTuple):
    """A disk that a reader opens: its kind, its size in bytes if reported, and other files it names."""

    reader: str
    kind: str
    size: int | None = None
    outside: frozenset[str] = frozenset()

    def differs(self, other: "Opened") -> bool:
        """Return whether another reader opens a different disk."""
        if self.kind != other.kind:
            return True
        if self.outside != other.outside and "7zz" not in {self.reader, other.reader}:
            return True
        known = self.size is not None and other.size is not None
        return known and self.kind != RAW and self.size != other.size


@cache
def _has(tool: str) -> bool:
    return shutil.which(tool, path=environment()["PATH"]) is not None


def there() -> list[str]:
    """Return the readers that are installed."""
    return [tool for tool in READERS if _has(tool)]


def opened(path: Path) -> Iterator[Opened]:
    """Return the disks that each installed reader opens."""
    yield from _by_qemu(path)
    yield from _by_listing(path)
    yield from _by_seven_zip(path)
    yield from _by_decompressors(path)
    yield from _by_python(path)


def _by_listing(path: Path) -> Iterator[Opened]:
    """Disks that are found by tools that print the type of a file."""
    if _has("blkid") and _run("blkid", "-p", path).stdout.strip():
        yield Opened("blkid", RAW)
    for tool in ("bsdtar", "tar"):
        done = _run(tool, "-tf", path) if _has(tool) else None
        if (
            done
            and done.returncode == 0
            and done.stdout.strip()
            and not (tool == "bsdtar" and _is_disc(path))
        ):
            yield Opened(tool, "archive")
    if _has("unzip") and _run("unzip", "-l", path).returncode in {0, 1}:
        yield Opened("unzip", "archive")


def _by_decompressors(path: Path) -> Iterator[Opened]:
    for tool in filter(_has, ("zstd", "gzip", "xz", "lz4", "bzip2")):
        unpacked = _unpacked(tool, path)
        # gzip unpacks the first member of a ZIP.
        if unpacked and not (tool == "gzip" and zipfile.is_zipfile(path)):
            yield Opened(tool, "packed", None, frozenset({sha256(unpacked).hexdigest()}))


def _run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=Path(command[-1]).parent,
        env={**environment(), "LC_ALL": "C.UTF-8"},
        timeout=SECONDS,
    )


def _by_qemu(path: Path) -> Iterator[Opened]:
    for image_format in (None, *QEMU_FORMATS) if _has("qemu-img") else ():
        told = ("-f", image_format) if image_format else ()
        done = _run("qemu-img", "info", "-U", "--output=json", *told, path)
        if done.returncode:
            continue
        info = json.loads(done.stdout)
        if info["format"] != RAW:
            yield _of_qemu(f"qemu-img {image_format or 'probing'}", info, path)


def _of_qemu(reader: str, info: dict[str, Any], path: Path) -> Opened:
    specific = info.get("format-specific", {}).get("data", {})
    extents = {extent["filename"] for extent in specific.get("extents", ()) if "filename" in extent}
    named = {info.get("backing-filename"), specific.get("data-file"), *extents} - {None, str(path)}
    size = info["virtual-size"]
    with path.open("rb") as file:
        if info["format"] == "vpc" and file.read(8) != b"conectix":
            return Opened(reader, RAW)
    return Opened(reader, info["format"], size, frozenset(named))


def _by_seven_zip(path: Path) -> Iterator[Opened]:
    """The archive that 7-Zip opens at the front or from the end.

    7-Zip also searches the first 8 MiB of an unknown file for archives. A volume that contains a ZIP file is
    not a ZIP, so archives after other data are ignored.
    """
    if not _has("7zz"):
        return
    done = _run("7zz", "l", "-slt", "-p-", path)
    kind = re.search(r"^Type = (.*)$", done.stdout, re.MULTILINE)
    searched = "\nOffset = " in done.stdout and "\nTail Size = " in done.stdout
    if done.returncode == 0 and kind is not None and kind[1] in SEVEN_ZIP and not searched:
        yield Opened("7zz", "packed" if kind[1] in STREAMS else "archive")


def _is_disc(path: Path) -> bool:
    """Whether the object is a disc. libarchive lists the files of a disc too."""
    with path.open("rb") as file:
        file.seek(32769)
        return file.read(5) in {b"CD001", b"BEA01", b"NSR02", b"NSR03"}


def _unpacked(tool: str, path: Path) -> bytes:
    """The first bytes of a decompressor's output, even if the decompressor fails later."""
    more = ("--long=27",) if tool == "zstd" else ()
    with (
        path.open("rb") as packed,
        subprocess.Popen(
            [tool, "-dc", *more],
            stdin=packed,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        ) as process,
    ):
        assert process.stdout is not None
        first = process.stdout.read(COMPARED)
        process.kill()
    return first


def _by_python(path: Path) -> Iterator[Opened]:
    try:
        with tarfile.open(path, "r:") as archive:
            if archive.getmembers():
                yield Opened("tarfile", "archive")
    except (tarfile.TarError, OSError, ValueError, EOFError):
        pass
    try:
        with zipfile.ZipFile(path) as packed:
            if packed.namelist():
                yield Opened("zipfile", "archive")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        pass


def pairs_that_differ(readers: list[Opened]) -> Iterator[tuple[Opened, Opened]]:
    """Yield every pair of readers that open different disks."""
    for number, one in enumerate(readers):
        for other in readers[number + 1 :]:
            if one.differs(other):
                yield one, other
