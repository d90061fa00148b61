"""Runs one inspector alone, on images or on files that tools made."""

import subprocess
from pathlib import Path
from typing import TypeVar

from keyhole.builders import Image
from keyhole.inspectors import FileInspector
from tests.inspectors.feeding import Single, told_at_once
from tests.tools import environment, need

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4

Kind = TypeVar("Kind", bound=FileInspector)


def inspected(kind: type[Kind], image: Image) -> Kind:
    """Return the inspector of an image when nothing is missing."""
    inspector = kind()
    run = told_at_once(Single(inspector), image)
    assert run.error is None
    return inspector


def checks_of(kind: type[FileInspector], image: Image) -> list[str]:
    """The codes of the checks' findings, in order."""
    return [finding.check for finding in inspected(kind, image).checks()]


def image_of(path: Path) -> Image:
    """A file as a sparse image, without its zeros."""
    with path.open("rb") as file:
        chunks = [(at, file.read(64 * KIB)) for at in range(0, path.stat().st_size, 64 * KIB)]
    return Image.of(path.stat().st_size, [(at, chunk) for at, chunk in chunks if any(chunk)])


def run_tool(package: str, *command: str | Path, stdin: bytes = b"") -> str:
    """Return the output of a tool. If the tool is not installed, the test is skipped; in CI it fails."""
    need(str(command[0]), package)
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, env=environment())
    assert done.returncode == 0, f"{command}: {done.stdout!r}{done.stderr!r}"
    return done.stdout.decode(errors="replace")
