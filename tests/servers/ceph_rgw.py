"""Runs Ceph's RGW, a real S3 server, for a test run: a monitor, an OSD in memory, and a gateway.

It uses Debian's packages `radosgw ceph-mon ceph-osd ceph-common` (16.2). The processes run as the user who
runs the tests, root or not. They use one folder and free ports of the loopback interface, with cephx enabled.
A cluster starts in two seconds and uses 130 MB. With the default settings the start takes 13 seconds, because
a new cluster agrees on about ten changes, one after the other, and its monitor waits a second before each
change to collect more (`paxos propose interval`). Deleted data is freed within a second instead of hours
(`rgw gc`). An answer with a body takes 5 ms instead of 45 (`tcp_nodelay`).

The system kills each process when the thread that started it ends (`setpriv --pdeathsig`, of util-linux), so
start the cluster from the main thread. If pytest is killed with SIGKILL, a folder of 40 MB remains, but no
process.

Tests must avoid a bug in 16.2.15. DeleteObjects aborts the gateway if the bucket has a persistent
notification to AMQP, or one that waits for the broker's confirmation. Ack level `none` has no such problem,
and neither has DeleteObject.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from uuid import uuid4

from tests.ports import free_port
from tests.servers.access import CREDENTIALS
from tests.servers.certificates import make_authority
from tests.tools import give_up

#: The programs that must be on the PATH, and the packages that contain them.
COMMANDS = (
    "radosgw",
    "radosgw-admin",
    "ceph-mon",
    "ceph-osd",
    "ceph",
    "ceph-authtool",
    "monmaptool",
    "setpriv",
)
PACKAGES = "radosgw ceph-mon ceph-osd ceph-common"

#: The timeout of each step of the start, in seconds. It is long, because a busy machine is slow.
PATIENCE = 120.0
POLL_SECONDS = 0.02
#: How many lines of each log an error shows.
LOG_LINES = 15

#: If the host name of a request is a subdomain of this host, RGW takes the bucket's name from it.
DNS_NAME = "s3.test"

#: The permissions of each user within the cluster.
CAPABILITIES: Mapping[str, Mapping[str, str]] = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.rgw.a": {"mon": "allow rw", "osd": "allow rwx"},
}

#: The configuration, with `{folder}`, `{fsid}` and the ports that must be known in advance. The OSD uses free
#: ports in 6800-7300.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
keyring = {folder}/keyring
auth cluster required = cephx
auth service required = cephx
auth client required = cephx

mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
run dir = {folder}
log file = {folder}/$name.log
admin socket =
pid file =

paxos propose interval = 0.01
paxos min wait = 0.01
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon max pg per osd = 1000

rgw frontends = beast {endpoints} tcp_nodelay=1
rgw dns name = {dns_name}
rgw thread pool size = 32
rgw dynamic resharding = false
rgw crypt require ssl = false
rgw max chunk size = 1048576
rgw gc max objs = 1
rgw gc obj min wait = 0
rgw gc processor period = 1
"""


@dataclass(frozen=True)
class CephRgw:
    """A running gateway. It accepts the credentials of `tests.servers.access`.

    `secure_url` is its URL with TLS, and `ca` the file with the CA's certificate. A bucket's name can also be
    a subdomain of `DNS_NAME`.
    """

    url: str
    secure_url: str
    ca: Path
    cluster: "Cluster"
    gateway: "Gateway"

    def add_user(self, name: str, access_key: str, secret_key: str) -> None:
        """Create an S3 user who cannot use other users' buckets."""
        self.cluster.run(
            "radosgw-admin", "user", "create", f"--uid={name}", f"--display-name={name}",
            f"--access-key={access_key}", f"--secret={secret_key}",
        )  # fmt: skip


class Cluster:
    """A folder with one configuration, in which Ceph's programs run."""

    def __init__(self, folder: Path, fsid: str) -> None:
        self.folder, self.fsid = folder, fsid
        self._conf = folder / "ceph.conf"
        # Each program would also use options from CEPH_ARGS.
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("CEPH_")}

    def configure(self, *, mon_port: int, rgw_port: int, tls_port: int, certificate: Path) -> None:
        """Write the configuration, and a key for each user."""
        plain = f"endpoint=127.0.0.1:{rgw_port}"
        secure = f"ssl_endpoint=127.0.0.1:{tls_port} ssl_certificate={certificate}"
        configuration = CONFIGURATION.format(
            folder=self.folder,
            fsid=self.fsid,
            mon_port=mon_port,
            endpoints=f"{plain} {secure}",
            dns_name=DNS_NAME,
        )
        self._conf.write_text(configuration)
        keyring = self.folder / "keyring"
        keyring.touch(mode=0o600)
        for name, capabilities in CAPABILITIES.items():
            caps = [word for service, cap in capabilities.items() for word in ("--cap", service, cap)]
            self.run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run a program to its end. The program itself waits until the cluster is ready for it."""
        try:
            done = subprocess.run(
                [program, "--conf", self._conf, *arguments],
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise self.failure(f"{program} was not done after {PATIENCE:g} s") from error
        if done.returncode != 0:
            raise self.failure(f"{program} failed: {done.stderr or done.stdout}")

    @contextmanager
    def daemon(self, program: str, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a program in its own session, so that Ctrl-C reaches only the tests.

        It is killed at the end, because its data is no longer needed.
        """
        with (self.folder / f"{program}.out").open("wb") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, "--conf", self._conf, *arguments, "-f"],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def failure(self, sentence: str) -> RuntimeError:
        """Return an error that contains the last lines of all logs."""
        logs = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        ends = {log.name: log.read_text(errors="replace").splitlines()[-LOG_LINES:] for log in sorted(logs)}
        return RuntimeError(
            "\n".join([sentence, *(f"{name}: {line}" for name in ends for line in ends[name])])
        )


class Gateway:
    """The gateway process. It can be killed and started again. The OSD keeps the objects."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self._cluster, self._port = cluster, port
        self._running = ExitStack()

    def start(self) -> None:
        """Start the gateway, and wait until it accepts connections."""
        process = self._running.enter_context(self._cluster.daemon("radosgw", "-n", "client.rgw.a"))
        _await_port(self._cluster, process, self._port)

    def kill(self) -> None:
        """Kill the gateway."""
        self._running.close()


@contextmanager
def ceph_rgw(folder: Path) -> Iterator[CephRgw]:
    """Run a cluster in an empty folder. If Ceph is not installed, the test is skipped; in CI it fails.

    Raises:
        RuntimeError: The cluster does not start. The message contains the last lines of its logs.
    """
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        give_up(f"Ceph is not there ({', '.join(missing)}): install {PACKAGES}")
    cluster = Cluster(folder, str(uuid4()))
    mon_port, rgw_port, tls_port = free_port(), free_port(), free_port()
    ca = make_authority(folder)
    certificate = ca.sign("127.0.0.1")
    cluster.configure(mon_port=mon_port, rgw_port=rgw_port, tls_port=tls_port, certificate=certificate)
    with ExitStack() as daemons:
        _make_monitor(cluster, mon_port)
        daemons.enter_context(cluster.daemon("ceph-mon", "-i", "a"))
        _make_osd(cluster)
        daemons.enter_context(cluster.daemon("ceph-osd", "-i", "0"))
        gateway = Gateway(cluster, rgw_port)
        rgw = CephRgw(
            f"http://127.0.0.1:{rgw_port}", f"https://127.0.0.1:{tls_port}", ca.file, cluster, gateway
        )
        rgw.add_user("keyhole", CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"])
        daemons.callback(gateway.kill)
        gateway.start()
        yield rgw
    # These warnings do not help readers of the logs.
    shutil.rmtree(folder / "mon")


def _make_monitor(cluster: Cluster, port: int) -> None:
    monmap = cluster.folder / "monmap"
    cluster.run(
        "monmaptool", "--create", "--fsid", cluster.fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", monmap
    )
    cluster.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", cluster.folder / "keyring")


def _make_osd(cluster: Cluster) -> None:
    (cluster.folder / "osd").mkdir()
    uuid = str(uuid4())
    cluster.run("ceph", "osd", "new", uuid, "0")
    cluster.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)


def _await_port(cluster: Cluster, process: "subprocess.Popen[bytes]", port: int) -> None:
    pause, deadline = Event(), time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise cluster.failure("radosgw does not take connections") from error
            pause.wait(POLL_SECONDS)
        else:
            return
