"""Measures how much memory a piece of Python code needs, in its own process.

It reads the process's peak memory from the kernel, because the value of `getrusage` includes the parent
process.
"""

import subprocess
import sys
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")
WATCHED = """
import re, sys
def held():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1]) * 1024
{imports}
before = held()
{code}
print(result, held() - before)
"""


def memory_taken(imports: str, code: str, *arguments: object) -> tuple[int, int]:
    """The number that the code stores in `result`, and the bytes that it needs in addition to the imports."""
    if not STATUS.exists():
        pytest.skip("only Linux tells how much memory was taken at most")
    script = WATCHED.format(imports=imports, code=code)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result, taken = map(int, done.stdout.split())
    return result, taken
