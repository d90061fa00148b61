"""The folder for downloaded parts of S3 inventories, which all workers of a user on a host share.

It contains a folder for each audit that reads an inventory. Workers with different Redis servers can share
it, so a worker does not know all of its audits.

A confined pool process can write only to the folder that existed when the process was confined, and not to a
later folder with the same path. So each worker holds a shared lock on the folder while it runs. A worker that
ends removes the folder only if no other worker holds the lock, and if the folder is empty.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from keyhole.intake.audits.audit import Audit

#: The folder.
INVENTORIES: Final = Path(tempfile.gettempdir()) / f"keyhole-inventory-{os.getuid()}"
#: The folder of an audit that Redis does not know is removed if it was not used for this many seconds.
FORGOTTEN_SECONDS: Final = 7 * 24 * 3600.0


class SharedFolder:
    """A folder that exists while a process holds it.

    Args:
        path: The path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def hold(self) -> None:
        """Create the folder if it is missing, and hold it.

        The processes that this process forks hold the folder, too, until they end.

        Raises:
            OSError: The folder cannot be created or locked.
        """
        while self._descriptor is None:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = self._locked()

    def _locked(self) -> int | None:
        """Lock the folder, and return its descriptor; `None` if another process removes it meanwhile."""
        with ExitStack() as stack, suppress(FileNotFoundError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(descriptor), self._path.lstat()):
                stack.pop_all()
                return descriptor
        return None

    def release(self) -> None:
        """Stop holding the folder. Remove it if no other process holds it, and if it is empty."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path.rmdir()
        os.close(self._descriptor)
        self._descriptor = None


def forget_inventories(folder: Path, get_audit: Callable[[str], Audit | None]) -> None:
    """Remove the folder of each audit that has ended, has listed all its objects, or is forgotten.

    Args:
        folder: The folder that contains a folder for each audit.
        get_audit: Returns the audit with an id; `None` if this worker's Redis does not contain it.
    """
    forgotten = time.time() - FORGOTTEN_SECONDS
    for one in folder.iterdir() if folder.is_dir() else ():
        audit = get_audit(one.name)
        if _used(one) < forgotten if audit is None else audit.state.ended or audit.listed_all:
            shutil.rmtree(one, ignore_errors=True)


def _used(folder: Path) -> float:
    """Return when the files of a folder were last used, in seconds since 1970."""
    times = [0.0]
    for path in (folder, *folder.glob("*")):
        with suppress(OSError):
            times.append(path.lstat().st_mtime)
    return max(times)
