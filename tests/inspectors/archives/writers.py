"""Every packaged writer of tar archives, and every dialect that each writes."""

import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.inspectors.archives import readers
from tests.inspectors.archives.readers import HERE

#: A function that writes the named files of a folder to an archive.
Writer = Callable[[Path, Path, Sequence[str]], None]


def _run(command: Sequence[str | Path], folder: Path, text: str = "") -> None:
    readers.need(str(command[0]))
    done = subprocess.run(command, cwd=folder, input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def gnu_tar(*options: str) -> Writer:
    """GNU tar."""
    return lambda folder, path, names: _run(["tar", *options, "-cf", path, *names], folder)


def bsdtar(*options: str) -> Writer:
    """libarchive, which macOS, FreeBSD and Windows use as `tar`."""
    return lambda folder, path, names: _run(["bsdtar", *options, "-cf", path, *names], folder)


def busybox(folder: Path, path: Path, names: Sequence[str]) -> None:
    """BusyBox."""
    _run(["busybox", "tar", "-cf", path, *names], folder)


def seven_zip(*options: str) -> Writer:
    """7-Zip, which removes the leading folder from a name."""
    return lambda folder, path, names: _run(["7zz", "a", "-ttar", "-snl", *options, path, *names], folder)


def cpio(dialect: str) -> Writer:
    """GNU cpio."""
    return lambda folder, path, names: _run(
        ["cpio", "-o", "-H", dialect, "-O", path], folder, "\n".join(names)
    )


def pax(dialect: str) -> Writer:
    """The BSDs' pax."""
    return lambda folder, path, names: _run(["pax", "-w", "-x", dialect, "-f", path, *names], folder)


def perl(folder: Path, path: Path, names: Sequence[str]) -> None:
    """Perl's Archive::Tar."""
    _run(["ptar", "-c", "-f", path, *names], folder)


def python(form: int) -> Writer:
    """Python's tarfile."""

    def write(folder: Path, path: Path, names: Sequence[str]) -> None:
        with tarfile.open(path, "w", format=form) as archive:
            for name in names:
                archive.add(folder / name, name)

    return write


def node(dialect: str) -> Writer:
    """npm's tar and tar-stream."""

    def write(folder: Path, path: Path, names: Sequence[str]) -> None:
        readers.need_node_modules()
        _run(["node", HERE / "writing.cjs", dialect, folder, path, *names], folder)

    return write


def go(program: Path, dialect: str) -> Writer:
    """Go's archive/tar, with the program that `readers.built_by_go` built from `writing.go`."""
    return lambda folder, path, names: _run([program, dialect, folder, path, *names], folder)


WRITERS: Mapping[str, Writer] = {
    **{f"GNU tar {form}": gnu_tar(f"--format={form}") for form in ("v7", "oldgnu", "gnu", "ustar", "posix")},
    **{f"GNU tar sparse {form}": gnu_tar("-S", f"--format={form}") for form in ("oldgnu", "gnu")},
    **{
        f"GNU tar sparse {version}": gnu_tar("-S", "--format=posix", f"--sparse-version={version}")
        for version in ("0.0", "0.1", "1.0")
    },
    "GNU tar labelled": gnu_tar("--label=backup"),
    "GNU tar incremental": gnu_tar("--incremental"),
    "GNU tar with attributes": gnu_tar("--format=posix", "--xattrs", "--acls", "--selinux"),
    "bsdtar": bsdtar(),
    **{f"bsdtar {form}": bsdtar(f"--format={form}") for form in ("ustar", "pax", "gnutar", "v7")},
    "busybox": busybox,
    "7-Zip": seven_zip(),
    **{f"7-Zip {form}": seven_zip(f"-mm={form}") for form in ("gnu", "pax", "posix")},
    **{f"cpio {form}": cpio(form) for form in ("tar", "ustar")},
    **{f"pax {form}": pax(form) for form in ("tar", "ustar")},
    "perl": perl,
    "Python ustar": python(tarfile.USTAR_FORMAT),
    "Python gnu": python(tarfile.GNU_FORMAT),
    "Python pax": python(tarfile.PAX_FORMAT),
    **{name: node(name) for name in ("npm pax", "npm portable", "npm without pax", "tar-stream")},
}
