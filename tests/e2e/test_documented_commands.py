"""The commands in the README and the reference run unchanged, one after the other.

The commands of a page are one shell script, in a folder that looks like a fresh clone with a virtual
environment in `.venv`. The README's commands start the demo, which stays up. Before the commands of the
reference, a local S3 is started, which has the same samples at the same address, but needs less time.
"""

import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e import commands
from tests.pages import README, REFERENCE, ROOT, block
from tests.ports import free_port
from tests.tools import need

PAGES = {
    "README": README,
    **REFERENCE,
    "CONTRIBUTING": (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8"),
}
#: The beginnings of commands that are not run here, with the reasons.
NOT_RUN = {
    "python3 -m venv .venv && .venv/bin/pip install -q -c deploy/constraints.txt '.[embedded]'": (
        "it installs packages from a registry; test_demo.py runs the demo"
    ),
    "python3 -m venv .venv": "it installs packages from a registry; .ci/run does so",
    ".venv/bin/pip install": "the same",
    "pip install": "the same",
    "pytest": "it is a run of these tests",
    "ruff check": "it needs the sources and their configuration; .ci/run runs it",
    "aws s3api": "it needs AWS's command line; tests/deploy and tests/ceph try the policies",
    "aws cloudformation": "tests/deploy/test_aws_stack.py runs it",
    "aws iam": "the same",
    "keyhole audit s3://images/ --inventory": "it needs an inventory; tests/intake/inventory makes some",
    "openssl req": "tests/deploy/test_redis.py runs it",
    "export KEYHOLE_REDIS_URL='rediss:": "the same, with a server that has these certificates",
    "sudo": "it changes the machine; tests/deploy/test_systemd.py installs the units into another folder",
    "kubectl": "it needs a cluster; tests/deploy/test_kubernetes.py builds and checks the manifests",
    "rabbitmqctl": "tests/deploy/test_rabbitmq.py runs it",
    "export KEYHOLE_BROKER_URL=": "the same, with a server that has these certificates",
    "keyhole worker --events": "it runs until it is stopped; test_task_events.py starts such a worker",
    "keyhole inspect https://": "it needs a public server; tests/sources/test_https.py has a private one",
    "curl": "the same",
    "keyhole dashboard": "it runs until it is stopped; tests/cli/test_dashboard.py starts it",
    "docker": "it needs the base images from a registry",
    "python3 -c 'from getpass": "it waits for a password",
    "celery -A keyhole.app flower": "Flower is not installed together with Keyhole",
}
#: The pages whose commands are not run here. tests/inspectors/test_documented_format.py runs the inspector of
#: the first page. The commands of the second page need AWS and the reader's own webhook; the tests in
#: tests/results/sinks run its programs.
OTHER_PAGES = {"adding-a-format", "notifications"}
#: Commands that run until they are stopped. They are stopped when their health check succeeds.
ENDLESS = ("keyhole listen", "keyhole scheduler")
#: Commands that can exit with 1, because some of the objects are not safe.
JUDGING = r"keyhole (inspect|submit|show|audit)\b"
#: A command that a page runs after another one succeeded. Here, the shell ignores it, as in `NOT_RUN`.
SET_POLICY = "aws s3api put-bucket-policy"
#: The URL of a Redis in the README.
REDIS = "redis://redis.example:6379/0"
#: The report of an audit in the pages, and that of the latest audit.
REPORT = "keyhole report ID"
LATEST_AUDIT = '"$(keyhole audits --json | python -c \'import json; print(json.loads(input())["id"])\')"'
LATEST_REPORT = f"keyhole report {LATEST_AUDIT}"
#: The commands that start the local S3.
SET_UP = """. .venv/bin/activate
python -m keyhole.demo.local_s3 &
export KEYHOLE_S3_ENDPOINT_URL=http://127.0.0.1:9000
export AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo AWS_DEFAULT_REGION=us-east-1
"""
#: The README's command that starts the demo, and what a reader does until it is ready.
KEPT = "keyhole demo --keep"
KEEP = f"""{KEPT} >kept & kept=$!
until grep -q ^Next: kept; do kill -0 "$kept" || exit 98; sleep 0.2; done
eval "$(grep ^export kept)"
"""

#: The queue of events that a page names. On AWS, S3 sends its notifications to that queue.
MAKE_QUEUE = """import boto3
boto3.client("sqs", endpoint_url="http://127.0.0.1:{port}", region_name="us-east-1",
             aws_access_key_id="demo", aws_secret_access_key="demo").create_queue(QueueName="uploads")
"""


class Command(NamedTuple):
    """A command of a page, or a Python program in it."""

    language: str
    text: str

    @property
    def reason(self) -> str | None:
        """The reason for not running it."""
        return next((why for start, why in NOT_RUN.items() if self.text.startswith(start)), None)


def shown(page: str) -> list[Command]:
    """The fenced blocks of a page."""
    found = []
    for language, text in re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if language == "python":
            found.append(Command(language, text))
        else:
            lines = [re.sub(r"\s+# .*", "", line) for line in text.replace("\\\n", "").splitlines()]
            found += [Command(language, line) for line in lines if line]
    return found


RUN = {
    name: [command for command in shown(page) if not command.reason]
    for name, page in PAGES.items()
    if name not in OTHER_PAGES
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder like a fresh clone, with the files that the pages tell the reader to create."""
    folder = tmp_path / "clone"
    bin_folder = folder / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name in ("deploy", "tests", "worker", "README.md", "docker-compose.yml"):
        (folder / name).symlink_to(ROOT / name)
    (bin_folder / "activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n')
    for name, program in (("python", ""), ("keyhole", "-m keyhole")):
        (bin_folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {program} "$@"\n')
        (bin_folder / name).chmod(0o755)
    (folder / "schedules.toml").write_text(block("[[schedules]]"))
    return folder


def as_run(command: Command, stand_ins: dict[str, str]) -> str:
    """A command for the shell, with this machine's servers instead of those that the page names."""
    if command.language == "python":
        return f"python -c {shlex.quote(command.text)}"
    if command.text.startswith(KEPT):
        return KEEP
    text = command.text
    for named, here in stand_ins.items():
        text = text.replace(named, here)
    if not text.startswith(ENDLESS) or "--" in text:
        return text
    return (
        f"{text} & endless=$!\n"
        f'until {text} --check; do kill -0 "$endless" || exit 98; sleep 0.2; done\n'
        'kill "$endless"; wait "$endless"'
    )


def script(page: list[Command], stand_ins: dict[str, str]) -> str:
    """A script of the commands. It checks each exit code."""
    lines = []
    for command in page:
        most = 1 if re.search(JUDGING, command.text) else 0
        lines += [
            f"echo {shlex.quote('$ ' + command.text)}",
            as_run(command, stand_ins),
            f'code=$?; [ "$code" -le {most} ] || {{ echo "exit code $code"; kill $(jobs -p); exit 99; }}',
        ]
        if "local_s3" in command.text:
            lines += ["until grep -q ^serving log; do sleep 0.1; done", "python make_queue.py"]
    return "\n".join([*lines, "kill $(jobs -p)", "wait", "exit 0", ""])


def test_everything_that_is_not_run_is_shown() -> None:
    all_shown = [command.text for page in PAGES.values() for command in shown(page)]
    for start in NOT_RUN:
        assert any(text.startswith(start) for text in all_shown), start


@pytest.mark.slow
@pytest.mark.parametrize("page", [name for name, found in RUN.items() if found])
def test_the_commands_of_a_page_run_as_they_stand(
    page: str, clone: Path, tmp_path: Path, valkey_url: str
) -> None:
    need("xzcat", "xz-utils")
    need("openssl")
    port = free_port()
    found = RUN[page]
    if page != "README":
        set_up = shown(f"```sh\n{SET_UP}```")
        needs_s3 = any(re.search("s3:|sqs:|listen", command.text) for command in found)
        found = [*(set_up if needs_s3 else set_up[:1]), *found]
    (clone / "make_queue.py").write_text(MAKE_QUEUE.format(port=port))
    stand_ins = {
        f" {SET_POLICY}": f" : {SET_POLICY}",
        " s3://images/": " s3://demo-images/",
        ":9000": f":{port}",
        "keyhole.demo.local_s3": f"keyhole.demo.local_s3 --port {port}",
        REPORT: LATEST_REPORT,
        REDIS: valkey_url,
    }
    (clone / "script").write_text(script(found, stand_ins))
    folders = {name: tmp_path / name for name in ("data", "t", "run")}
    for folder in folders.values():
        folder.mkdir()
    env = commands.environment(
        KEYHOLE_DATA_DIR=folders["data"],
        TMPDIR=folders["t"],
        XDG_RUNTIME_DIR=folders["run"],
        PYTHONPATH=ROOT,
    )
    log = clone / "log"
    with commands.started("script", program=("bash",), env=env, log=log, cwd=clone) as process:
        code = process.wait(2 * commands.PATIENCE)  # a page has up to twenty commands
    assert code == 0, log.read_text()
