"""What other readers see in an archive: GNU tar, Python's tarfile, and where it is installed libarchive's."""

import os
import re
import subprocess
import tarfile
from pathlib import Path

#: A listing's line up to the name: mode, owner, size, date, time.
LISTED = re.compile(r"^(\S)\S+\s+\S+\s+(\S+)\s+\S+\s+\S+\s(.*)$")

#: A member as readers list it: a name, and its size.
Listed = tuple[str, int]


def by_gnu_tar(path: Path) -> list[Listed] | None:
    """The files that GNU tar lists; `None` if it complains."""
    done = subprocess.run(
        ["tar", "-tvf", path, "--force-local", "--quoting-style=literal"],
        capture_output=True,
        check=False,
        env={"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath), "TZ": "UTC"},
    )
    if done.returncode:
        return None
    lines = [LISTED.match(line) for line in done.stdout.decode(errors="replace").splitlines()]
    return [(line[3], int(line[2])) for line in lines if line and line[1] in "-C"]


def by_tarfile(path: Path) -> list[Listed] | None:
    """The files that Python lists; `None` if it complains."""
    try:
        with tarfile.open(path, "r:", errorlevel=2) as archive:
            # To GNU tar what ends in a slash is a folder.
            files = [member for member in archive if member.isreg() and not member.name.endswith("/")]
            return [(member.name, member.size) for member in files]
    except (tarfile.TarError, ValueError, EOFError, OSError):
        return None
