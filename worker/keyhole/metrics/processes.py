"""The counts of a worker's processes, in files of a private folder.

Each pool process has a *slot*: a number that no other running process of the worker has. If a process dies,
the process that replaces it gets the same slot, and continues to count in the same files. So the number of
files does not grow, and no count is lost. A file `<slot>.pid` states which process has the slot. If the
process of a slot is not running, the page ignores the gauges in the slot's files.

If a disk is full, a write to a new page of a mapped file kills the process. So each process reserves the
space of its files when it starts.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from prometheus_client import Metric, values
from prometheus_client.multiprocess import MultiProcessCollector

from keyhole.health import start_of
from keyhole.metrics.counting import CountingRecorder, Known

#: The variable in which `prometheus_client` expects the folder.
VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
#: The reserved bytes of each file. A file of counters needs up to 60 KiB, with all statuses and formats.
RESERVED: Final = 128 * 1024
_PREFIX: Final = f"keyhole-metrics-{os.getuid()}-"


class ProcessFiles:
    """The files of a worker.

    Args:
        folder: The private folder.
        slot: Returns the slot of the calling process.
    """

    def __init__(self, folder: Path, slot: Callable[[], str]) -> None:
        self.folder = folder
        self._slot = slot

    def claim(self) -> None:
        """Record that this process has its slot, and reserve the space of its files.

        Raises:
            OSError: The folder cannot be written, or the disk is full.
        """
        slot = self._slot()
        (self.folder / f"{slot}.pid").write_text(_process(os.getpid()), encoding="ascii")
        for path in self.folder.glob(f"*_{slot}.db"):
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVED)

    def readable(self) -> list[str]:
        """Return the files to read: all files of counters, and the gauges of running processes."""
        return [
            str(path)
            for path in self.folder.glob("*.db")
            if not path.name.startswith("gauge_live") or self._is_running(path.stem.rpartition("_")[2])
        ]

    def _is_running(self, slot: str) -> bool:
        try:
            process = (self.folder / f"{slot}.pid").read_text(encoding="ascii")
        except OSError:
            return False
        pid = process.partition("-")[0]
        return pid.isdigit() and process == _process(int(pid))


class FileRecorder(CountingRecorder):
    """Counts in the files of this process. A forked process counts in its own files."""

    def __init__(self, files: ProcessFiles, known: Known) -> None:
        super().__init__(None, known)
        self._files = files
        self._files.claim()

    def begin_process(self) -> None:
        """Open the files of this process, and reserve their space."""
        super().begin_process()
        self._files.claim()


class FilesCollector(MultiProcessCollector):
    """Reads the counts of all processes for the page."""

    def __init__(self, files: ProcessFiles) -> None:
        super().__init__(None, str(files.folder))  # type: ignore[no-untyped-call] # prometheus_client's
        self._files = files

    def collect(self) -> Iterable[Metric]:
        """Return the metrics, summed over the processes."""
        found: Iterable[Metric] = self.merge(self._files.readable(), accumulate=True)  # type: ignore[no-untyped-call] # as above
        return found


@contextmanager
def process_files(slot: Callable[[], str]) -> Iterator[ProcessFiles]:
    """Create the private folder, and remove it at the end of the `with` block.

    Also remove the folders of killed workers of this user. From now on, all metrics that this process creates
    are counted in files.

    Raises:
        OSError: The folder cannot be created.
    """
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_process(os.getpid())}-"))
    owner = os.getpid()
    os.environ[VARIABLE] = str(folder)
    values.ValueClass = values.MultiProcessValue(slot)  # type: ignore[no-untyped-call] # prometheus_client's
    try:
        yield ProcessFiles(folder, slot)
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


def _process(pid: int) -> str:
    """Return a name for a process that no later process with the same id has."""
    return f"{pid}-{start_of(pid)}"


def _remove_abandoned() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid, _, start = path.name.removeprefix(_PREFIX).partition("-")
        with suppress(OSError):
            mine = path.lstat().st_uid == os.getuid() and not path.is_symlink()
            if mine and pid.isdigit() and start_of(int(pid)) != start.partition("-")[0]:
                shutil.rmtree(path, ignore_errors=True)
