"""Failures of the process that reads a part do not affect the listing process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from select import poll

import pyarrow as pa
import pytest

from keyhole.intake.inventory.conversion import _death, convert
from keyhole.intake.inventory.part import CPU_SECONDS, Conversion, FileFormat, PartError
from tests.intake.inventory.inventories import CURRENT, Row, csv_part, in_parquet

#: One byte of a good file was changed. pyarrow 26.0.1 crashes when it reads the file.
KILLER = Path(__file__).with_name("kills_pyarrow_26.orc")


@pytest.fixture
def conversion(tmp_path: Path) -> Callable[..., Conversion]:
    """The conversion of a part, which can be an invalid file."""

    def of(file_format: FileFormat, body: bytes | None) -> Conversion:
        source = tmp_path / "part"
        if body is None:
            os.mkfifo(source)
        else:
            source.write_bytes(body)
        size = len(body or b"")
        target = os.fspath(tmp_path / "table")
        return Conversion(os.fspath(source), target, size, file_format, CURRENT, "images", "", versions=False)

    return of


def test_a_part_is_converted_in_a_process_of_its_own(conversion: Callable[..., Conversion]) -> None:
    part = conversion(FileFormat.CSV, csv_part([Row("a", bucket="images"), Row("b", bucket="others")]))
    assert convert(part) == 1
    assert Path(part.target).exists()


def test_the_row_of_an_error_comes_back_from_it(conversion: Callable[..., Conversion]) -> None:
    rows = [Row("a", bucket="images"), Row("b", bucket="images", size=-1)]
    with pytest.raises(PartError, match="Size is not a valid number of bytes") as raised:
        convert(conversion(FileFormat.CSV, csv_part(rows)))
    assert raised.value.row == 2


@pytest.mark.slow
@pytest.mark.parametrize("file_format", [FileFormat.PARQUET, FileFormat.ORC])
@pytest.mark.parametrize("body", [b"", b"PAR1", b"ORC", bytes(1000), b"images,a,1\n"])
def test_what_is_no_such_file_is_refused(
    conversion: Callable[..., Conversion], file_format: FileFormat, body: bytes
) -> None:
    with pytest.raises(PartError, match="it cannot be read: "):
        convert(conversion(file_format, body))


def test_a_file_that_kills_its_reader_is_refused(conversion: Callable[..., Conversion]) -> None:
    # Pyarrow crashes only while it has this bug. Without the bug, it refuses the file or reads it.
    with pytest.raises(PartError, match="crashed the process \\(Segmentation fault\\)"):
        convert(conversion(FileFormat.ORC, KILLER.read_bytes()))


@pytest.mark.slow
def test_a_small_file_that_is_large_in_memory_is_refused(conversion: Callable[..., Conversion]) -> None:
    # Given a file that contains one long text many times
    many = 8192
    key = pa.DictionaryArray.from_arrays(pa.array([0] * many, pa.int32()), pa.array(["k" * (1 << 20)]))
    body = in_parquet(pa.table({"bucket": ["images"] * many, "key": key, "size": [1] * many}))
    assert len(body) < 1 << 20
    # When it is read, then it needs no more memory than the limit
    with pytest.raises(PartError, match="needs more than 2048 MiB of memory"):
        convert(conversion(FileFormat.PARQUET, body))


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (-signal.SIGXCPU, f"takes longer than {CPU_SECONDS} seconds"),
        (-signal.SIGABRT, "crashed the process (Aborted)"),
        (1, "failed without an error message (exit code 1)"),
    ],
)
def test_a_death_is_told_in_words(returncode: int, words: str) -> None:
    assert _death(returncode) == words


# A child that reads a FIFO waits as long as the test has it open

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="the child is found by what Linux has in /proc"
)
SCRIPT = """
import json, sys
from keyhole.intake.inventory.conversion import convert
from keyhole.intake.inventory.part import Conversion, PartError
try:
    convert(Conversion(**json.loads(sys.argv[1])))
except PartError as error:
    print(error)
"""


@contextmanager
def reading(part: Conversion) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A process whose child reads the part, and the child."""
    command = [sys.executable, "-c", SCRIPT, json.dumps(asdict(part))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        descriptor = os.open(part.source, os.O_WRONLY)  # returns when the child has opened it too
        try:
            tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
            (child,) = [int(pid) for task in tasks for pid in task.read_text().split()]
            yield process, child
        finally:
            os.close(descriptor)
            process.kill()


@needs_proc
def test_whatever_kills_it_is_an_error(conversion: Callable[..., Conversion]) -> None:
    with reading(conversion(FileFormat.CSV, None)) as (process, child):
        os.kill(child, signal.SIGKILL)
        said, _ = process.communicate()
    assert said.strip() == "reading it crashed the process (Killed)"


@needs_proc
def test_it_ends_when_its_parent_is_killed(conversion: Callable[..., Conversion]) -> None:
    with reading(conversion(FileFormat.CSV, None)) as (process, child):
        handle = os.pidfd_open(child)
        process.kill()
        ended = poll()
        ended.register(handle)
        assert ended.poll(60_000), "it lives on after a minute"
        os.close(handle)
