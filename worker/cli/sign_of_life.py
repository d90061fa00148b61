"""A listener's sign of life: a file that it touches, so that its health can be checked without asking it.

It is `listen-…`, named by a hash of the queue's address without its password, in the user's runtime folder:
`$XDG_RUNTIME_DIR/keyhole`, or without that variable `keyhole-UID` in the folder for temporary files. All
listeners of this user to the same queue touch the same file; one that ends takes it away, and the others put
it back.
"""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

log = logging.getLogger(__name__)


class SignOfLife:
    """The sign of those who listen to one queue.

    Args:
        source: The queue's address, without a password.
    """

    def __init__(self, source: str) -> None:
        name = blake2b(source.encode(errors="surrogateescape"), digest_size=8).hexdigest()
        self.path = _runtime_folder() / f"listen-{name}"

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Give the first sign, and take it away in the end. Where none can be given, say so, and go on."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._touch()
        except OSError as error:
            log.warning("`keyhole listen --check` will find no sign of life: %s", error)
        try:
            yield
        finally:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def give(self) -> None:
        """Give a sign, if that is possible."""
        with suppress(OSError):
            self._touch()

    def _touch(self) -> None:
        # Nobody else's link is followed: the folder may be one that others can write to.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)

    def age(self) -> float | None:
        """Seconds since the last sign; `None` if there is none."""
        try:
            return max(0.0, time.time() - self.path.stat().st_mtime)
        except OSError:
            return None


def _runtime_folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "keyhole" if runtime else Path(tempfile.gettempdir()) / f"keyhole-{os.getuid()}"
