"""Runs Python code in its own process, which Keyhole confines first."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyhole.confinement import landlock

#: With `later()`, a process that is not confined runs a shell command.
PREAMBLE = """
import json, os, subprocess, sys
from pathlib import Path
from keyhole.confinement.cage import confine
from keyhole.confinement.needs import needs

folder, command = Path(sys.argv[1]), sys.argv[2]
shell = subprocess.Popen(["sh", "-ec", "read go; " + command], stdin=subprocess.PIPE)

def later():
    shell.communicate(b"go\\n")
    assert shell.returncode == 0

def refused(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return None

"""
CONFINE = """
allowed = needs(files=[], urls=[], folders=[folder / "writable"])
confine(allowed, threads=16, memory=64 << 20, required=True)
"""

with_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel offers no Landlock")


def run(
    code: str, folder: Path, later: str = "true", before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a confined process that can write to `folder/writable`. Its home is `folder/home`.

    The code `before` runs in the same process before it is confined.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + before + CONFINE + code, folder, later],
        env=kept | {"HOME": str(folder / "home"), "AWS_EC2_METADATA_DISABLED": "true"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def answer(code: str, folder: Path, later: str = "true", before: str = "", **environment: str) -> Any:
    """The JSON that confined code prints."""
    done = run(code, folder, later, before, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
