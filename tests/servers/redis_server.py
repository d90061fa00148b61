"""A real Redis with TLS, Debian's or the embedded Valkey, as a process of the tests' own."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from tests.e2e.commands import until
from tests.inspectors.content.tools import give_up
from tests.ports import free_port
from tests.servers.certificate import certify

#: Debian's Redis, by its path.
REDIS = Path("/usr/bin/redis-server")
PASSWORD = "s3cret;/"
QUOTED = "s3cret%3B%2F"


class RedisServer:
    """A Redis in a folder, by TCP and by TLS, and with a password."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder, self._program = folder, program
        self.port, self.tls_port = free_port(), free_port()
        self.ca = folder / "ca.pem"
        certify(self.ca, folder / "key.pem")
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, *, scheme: str = "redis", user: str = "", query: str = "") -> str:
        """Where it is."""
        port = self.tls_port if scheme == "rediss" else self.port
        return f"{scheme}://{user}:{QUOTED}@127.0.0.1:{port}/0{query}"

    def client(self) -> redis.Redis:
        """A client for a test's own questions, which may do everything."""
        return redis.Redis(port=self.port, password=PASSWORD, protocol=2)

    def start(self, *arguments: str) -> None:
        """Start it, and wait until it answers."""
        options = {
            "port": self.port,
            "tls-port": self.tls_port,
            "tls-cert-file": self.ca,
            "tls-key-file": self.folder / "key.pem",
            "tls-auth-clients": "no",
            "requirepass": PASSWORD,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "save": "",
        }
        command = [str(text) for name, value in options.items() for text in (f"--{name}", value)]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, *command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self._answers)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "output").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextmanager
def redis_server(*arguments: str, program: Path = REDIS) -> Iterator[RedisServer]:
    """Run one; skipped where it is not installed, a failure in CI."""
    if not program.exists():
        give_up("Redis is not there: install redis-server")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="keyhole-redis-"))
        stack.callback(shutil.rmtree, folder)
        server = RedisServer(folder, program)
        stack.callback(server.stop)
        server.start(*arguments)
        yield server
