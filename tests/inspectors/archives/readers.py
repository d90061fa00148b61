"""Lists an archive with other readers: GNU tar, Python, bsdtar, BusyBox, two packages of npm, and Go."""

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

#: A line of a listing: mode, owner, size, date, time, name. bsdtar adds the link count and prints a longer
#: date.
LISTED = re.compile(r"^(\S)\S+\s+\S+\s+(\S+)\s+\S+\s+\S+\s(.*)$")
LISTED_BY_BSDTAR = re.compile(r"^(\S)\S+\s+\d+\s+\S+\s+\S+\s+(\S+)\s+\S+\s+\S+\s+\S+\s(.*)$")
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC"}
HERE = Path(__file__).parent
#: The variable with the folder in which npm's packages `tar` and `tar-stream` are installed.
NODE_MODULES = "KEYHOLE_TEST_NODE_MODULES"
#: The package of each tool.
PACKAGES = {
    "7zz": "7zip",
    "bsdtar": "libarchive-tools",
    "busybox": "busybox",
    "cpio": "cpio",
    "go": "golang-go",
    "node": "nodejs",
    "pax": "pax",
    "ptar": "perl",
    "qemu-img": "qemu-utils",
    "tar": "tar",
}

#: A member in a reader's listing: its name and its size.
Listed = tuple[str, int]
#: The files that a reader lists; `None` if it reports an error.
Listing = list[Listed] | None


def need(*tools: str) -> None:
    """Skip the test if a tool is not installed; in CI, fail."""
    for tool in tools:
        if shutil.which(tool) is None:
            _give_up(f"{tool} is not there: install {PACKAGES[tool]}")


def need_node_modules() -> None:
    """Skip the test if npm's packages are not installed; in CI, fail."""
    need("node")
    if not os.environ.get(NODE_MODULES):
        _give_up(f"{NODE_MODULES} does not say where npm's tar and tar-stream are installed")


def by_gnu_tar(path: Path) -> Listing:
    """The files that GNU tar lists."""
    return _listed(["tar", "-tvf", path, "--force-local", "--quoting-style=literal"], LISTED, "-C")


def by_tarfile(path: Path) -> Listing:
    """The files that Python lists."""
    try:
        with tarfile.open(path, "r:", errorlevel=2) as archive:
            # GNU tar treats a member whose name ends in a slash as a folder.
            files = [member for member in archive if member.isreg() and not member.name.endswith("/")]
            return [(member.name, member.size) for member in files]
    except (tarfile.TarError, ValueError, EOFError, OSError):
        return None


def by_bsdtar(path: Path) -> Listing:
    """The files that libarchive lists."""
    return _listed(["bsdtar", "-tvf", path], LISTED_BY_BSDTAR, "-")


def by_busybox(path: Path) -> Listing:
    """The files that BusyBox lists."""
    return _listed(["busybox", "tar", "-tvf", path], LISTED, "-")


def by_node(paths: Iterable[Path]) -> Iterator[Mapping[str, Listing]]:
    """The files that npm's `tar` and `tar-stream` list in each archive; none if the archive crashes them."""
    waiting = list(paths)
    while waiting:
        lines = _asked(["node", HERE / "listing.cjs"], waiting)
        yield from ({name: _pairs(rows) for name, rows in json.loads(line).items()} for line in lines)
        if len(lines) < len(waiting):
            yield {"npm": None, "tar-stream": None}
        waiting = waiting[len(lines) + 1 :]


def by_go(program: Path, paths: Sequence[Path]) -> list[Listing]:
    """The files that Go lists in each archive, with the program that `built_by_go` made."""
    return [_pairs(json.loads(line)) for line in _asked([program], paths)]


def built_by_go(folder: Path, source: str = "listing.go") -> Path:
    """A Go program, built in a folder. By default, it lists archives with Go's library."""
    need("go")
    program = folder / Path(source).stem
    environment = {**os.environ, "GOCACHE": str(folder / "cache"), "GOFLAGS": "-mod=mod"}
    subprocess.run(["go", "build", "-o", program, HERE / source], check=True, env=environment)
    return program


def _listed(command: Sequence[str | Path], line: re.Pattern[str], kinds: str) -> Listing:
    done = subprocess.run(command, capture_output=True, check=False, env=ENVIRONMENT)
    if done.returncode:
        return None
    rows = [line.match(text) for text in done.stdout.decode(errors="replace").splitlines()]
    return [(row[3], int(row[2])) for row in rows if row and row[1] in kinds]


def _asked(command: Sequence[str | Path], paths: Iterable[Path]) -> list[str]:
    """A program's answers for these paths, one line for each."""
    lines = "".join(f"{path}\n" for path in paths)
    return subprocess.run(
        command, input=lines, capture_output=True, check=False, text=True, errors="replace"
    ).stdout.splitlines()


def _pairs(rows: Sequence[Sequence[str | int]] | None) -> Listing:
    return None if rows is None else [(str(name), int(size)) for name, size in rows]


def _give_up(reason: str) -> None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
