"""Runs a real RabbitMQ, from Debian's package `rabbitmq-server`, as a process of the tests.

All its files are in one temporary folder: data, log, the cookie (in HOME), the certificate. Its ports, and
the port of its epmd (Erlang's port mapper), are free ports of the loopback interface. It does not interfere
with another RabbitMQ on the machine. It runs as the user who runs the tests, root or not.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import amqp  # type: ignore[import-untyped]  # it ships no type information

from tests.e2e.commands import until
from tests.ports import free_port
from tests.servers.certificate import certify
from tests.tools import give_up

#: The server's own script. The script on the PATH is Debian's wrapper, which changes to the user `rabbitmq`.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
#: Timeout for a start or an orderly stop, in seconds. A start takes 3 seconds on an idle machine.
PATIENCE = 240.0
#: The prefix of a command that ends with the thread that started it, even if pytest is killed (util-linux).
WITH_US = ("setpriv", "--pdeathsig", "KILL")
USER, PASSWORD = "guest", "guest"
#: A second virtual host. Its name must be percent-encoded in URLs.
VHOSTS = ("/", "keyhole", "a/b c")
#: A virtual host in which all queues except exclusive ones are quorum queues.
QUORUM_VHOST = "quorum"
#: Erlang's options: two scheduler threads that wait without using CPU, only the loopback interface, and the
#: port mapper that already runs.
ERLANG_OPTIONS = (
    "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none"
)


class RabbitMQ:
    """A server in a folder. It can be stopped, killed and started again with the same data and ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self.vhosts = [*VHOSTS]
        self.ca = folder / "ca.pem"
        self._env = _environment(folder, epmd_port=free_port(), distribution_port=free_port())
        self._process: subprocess.Popen[bytes] | None = None
        _configure(folder, self.port, self.tls_port)
        certify(self.ca, folder / "key.pem")

    def url(self, vhost: str = "/", *, scheme: str = "amqp") -> str:
        """The server's URL, for the user with all permissions."""
        port = self.tls_port if scheme == "amqps" else self.port
        return f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{port}/{quote(vhost, safe='')}"

    def connection(self, vhost: str = "/") -> amqp.Connection:
        """A connection for the test's own requests. The caller closes it."""
        connection = amqp.Connection(
            f"127.0.0.1:{self.port}", USER, PASSWORD, virtual_host=vhost, connect_timeout=PATIENCE
        )
        connection.connect()
        return connection

    @contextmanager
    def channel(self, vhost: str = "/") -> Iterator[amqp.Channel]:
        """A channel for the test's own requests."""
        with self.connection(vhost) as connection, connection.channel() as channel:
            yield channel

    def delete_queues(self, names: Iterable[str]) -> None:
        """Delete these queues in all virtual hosts, with their messages, and also if they have consumers."""
        for vhost in self.vhosts:
            with self.channel(vhost) as channel:
                for name in names:
                    channel.queue_delete(name)

    def control(self, *command: str) -> str:
        """Return the output of a command of the administration tool, which reports more than AMQP does."""
        node = self._env["RABBITMQ_NODENAME"]
        tool = [str(SERVER.parent / "rabbitmqctl"), "--node", node, "--quiet", *command]
        return subprocess.run(tool, env=self._env, capture_output=True, text=True, check=True).stdout

    @contextmanager
    def port_mapper(self) -> Iterator[None]:
        """Run epmd, which a start needs, as long as the server can be started."""
        process = subprocess.Popen(
            [*WITH_US, "epmd", "-port", self._env["ERL_EPMD_PORT"], "-address", "127.0.0.1"],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [*WITH_US, SERVER],
                env=self._env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(lambda: self._answers() or self._process is None or self._process.poll() is not None, PATIENCE)
        assert self._process.poll() is None, (self.folder / "output").read_text()

    def add_quorum_vhost(self) -> None:
        """Add the virtual host.

        RabbitMQ 3.10 cannot import one with this queue type from its definitions file.
        """
        if QUORUM_VHOST not in self.vhosts:
            self.control("add_vhost", QUORUM_VHOST, "--default-queue-type", "quorum")
            self.control("set_permissions", "--vhost", QUORUM_VHOST, USER, ".*", ".*", ".*")
            self.vhosts.append(QUORUM_VHOST)

    def stop(self) -> None:
        """Stop the server as a service manager does."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE)
        self.kill()

    def kill(self) -> None:
        """Kill the server's remaining processes."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE)
            self._process = None

    def freeze(self) -> None:
        """Stop all threads of the server. Its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server continue."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            self.connection().close()
        except OSError:
            return False
        return True


@contextmanager
def rabbitmq_server() -> Iterator[RabbitMQ]:
    """Run a RabbitMQ. If it is not installed, the test is skipped; in CI it fails."""
    if not SERVER.exists() or shutil.which("epmd") is None:
        give_up("RabbitMQ is not there: install rabbitmq-server")
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="keyhole-rabbitmq-"))
        stack.callback(shutil.rmtree, folder)
        server = RabbitMQ(folder)
        stack.enter_context(server.port_mapper())
        stack.callback(server.kill)
        server.start()
        yield server


def _environment(folder: Path, *, epmd_port: int, distribution_port: int) -> dict[str, str]:
    foreign = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_NODENAME": "keyhole@localhost",
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_OPTIONS,
        # With this option the script is replaced by the server, as under systemd. Otherwise it would wait for
        # the server.
        "NOTIFY_SOCKET": os.devnull,
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }


def _configure(folder: Path, port: int, tls_port: int) -> None:
    (folder / "enabled_plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text(
        f"""\
listeners.tcp.1 = 127.0.0.1:{port}
listeners.ssl.1 = 127.0.0.1:{tls_port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/ca.pem
ssl_options.keyfile = {folder}/key.pem
ssl_options.verify = verify_none
load_definitions = {folder}/definitions.json
# The disk of a test machine may be nearly full; its messages are few.
disk_free_limit.absolute = 1MB
"""
    )
    (folder / "definitions.json").write_text(
        json.dumps(
            {
                "vhosts": [{"name": name} for name in VHOSTS],
                "users": [{"name": USER, "password": PASSWORD, "tags": ["administrator"]}],
                "permissions": [
                    {"user": USER, "vhost": name, "configure": ".*", "write": ".*", "read": ".*"}
                    for name in VHOSTS
                ],
            }
        )
    )
