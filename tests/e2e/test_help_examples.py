"""The examples in the help texts of all commands run as they stand.

All examples are one shell script, in a folder with the files that they name. A worker runs beside them, on a
local S3 with the objects that they name.
"""

import gzip
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from keyhole.builders import qcow2, vhd_fixed, vmdk_sparse
from keyhole.cli import keyhole
from tests.e2e import commands
from tests.pages import block
from tests.tools import need

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: The beginnings of examples that are not run here, with the reasons.
NOT_RUN = {
    "keyhole demo": "test_demo.py runs the demo with its options",
    "keyhole dashboard": "it runs until it is stopped; tests/dashboard starts it",
    "keyhole completion fish": "it needs the shell fish; tests/cli checks the script",
    'eval "$(keyhole completion zsh)"': "it needs the shell zsh; the same",
    "keyhole inspect https:": "tests/cli/test_inspect.py inspects a local HTTPS server",
    "keyhole listen": "it needs a queue of events; test_events.py listens to such queues",
    "keyhole worker --concurrency": "it runs until it is stopped; test_stopping.py stops workers",
    "keyhole worker --events": "the same; test_task_events.py starts such a worker",
    "KEYHOLE_POLICY=policy.toml keyhole worker": "the same; tests/cli/test_policy.py tries such policies",
    "KEYHOLE_SCHEDULES=schedules.toml keyhole scheduler": "the same; test_schedules.py starts schedulers",
    "keyhole scheduler --check": "it needs a scheduler; test_documented_commands.py checks one",
    "keyhole status --watch": "it runs until it is stopped; tests/cli/test_status.py stops it",
}
#: Examples that can exit with 1, because some of the objects are not safe.
JUDGING = r"keyhole (inspect|submit|show|audit|verify|report)\b"
#: An example: perhaps with a variable, with another program before it, or in `eval`.
EXAMPLE = re.compile(r"""(\w+=\S+ |.* \| |eval "\$\()?keyhole\b""")
LETTER_ID = '"$(keyhole dead list --json | head -n 1 | jq -r .id)"'
#: Texts in the examples, and what stands for them here: an id, and an answer to a question.
STAND_INS = {
    **{f"keyhole dead {turn} ID": f"keyhole dead {turn} {LETTER_ID}" for turn in ("show", "retry", "drop")},
    "keyhole dead drop --all": "yes | keyhole dead drop --all",
}
#: `uploads/4.qcow2` belongs to the sample of 1%.
OBJECTS = (
    *("debian.qcow2", "uploads/a.qcow2", "uploads/4.qcow2", "a.vmdk", "b.vmdk", "image.qcow2"),
    "images/a.qcow2",
)
#: Makes a dead letter, which the next example can show, retry or drop.
LETTER = """import os
from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.results.tags import TagDebt
from keyhole.store.connection import connect
DeadLetters(connect(os.environ["KEYHOLE_REDIS_URL"])).add(
    Dead.tags(TagDebt("images", "debian.qcow2"), "S3 refused the tags"))
"""


def examples(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    """Yield the example lines in the help text of a command and of its subcommands."""
    context = click.Context(command, info_name=name, parent=parent)
    for found in re.findall(r"\x08\n(.*?)(?:\n *\n|$)", command.help or "", re.DOTALL):
        for line in found.splitlines():
            # An explanation can stand before or after an example.
            parts = re.split(r"\s{2,}|\s+#\s", line.strip())
            yield from [part for part in parts if EXAMPLE.match(part)][:1]
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            assert inner is not None
            yield from examples(inner, each, context)


ALL = list(dict.fromkeys(examples(keyhole, "keyhole")))


def reason(example: str) -> str | None:
    """The reason for not running an example."""
    return next((why for start, why in NOT_RUN.items() if example.startswith(start)), None)


def test_everything_that_is_not_run_is_an_example() -> None:
    for start in NOT_RUN:
        assert any(example.startswith(start) for example in ALL), start


def test_no_example_contains_an_id_that_a_user_would_copy() -> None:
    """The user would get an error. `latest` is the latest audit, and ID stands for any id."""
    ids = r"(?<![\w/])[0-9a-f]{12}\b"  # a part of a URL can look the same
    assert [example for example in ALL if re.search(ids, example)] == []


def test_every_command_has_an_example() -> None:
    """So a mistake in finding the examples does not go unnoticed."""
    shown = {word for example in ALL for word in re.findall(r"\bkeyhole ([a-z]+)", example)}
    assert shown == set(keyhole.list_commands(click.Context(keyhole)))


def script() -> str:
    """A script of all examples. It checks each exit code."""
    lines = ["keyhole worker &", "until keyhole worker --check; do sleep 0.2; done"]
    for example in ALL:
        if reason(example) or example == "keyhole worker":
            continue
        text = example
        for shown, here in STAND_INS.items():
            text = text.replace(shown, here)
        most = 1 if re.search(JUDGING, example) else 0
        lines += [
            *(["python letter.py"] if "keyhole dead" in example else []),
            f"echo {shlex.quote('$ ' + example)}",
            text,
            f'code=$?; [ "$code" -le {most} ] || {{ echo "exit code $code"; kill $(jobs -p); exit 99; }}',
        ]
    return "\n".join([*lines, "kill $(jobs -p)", "wait", "exit 0", ""])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the examples name, and the programs that they run."""
    for name, program in (("python", ""), ("keyhole", "-m keyhole")):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {program} "$@"\n')
        path.chmod(0o755)
    vmdk_sparse(1 << 30).write_to(tmp_path / "disk.vmdk")
    (tmp_path / "disk.vhd.gz").write_bytes(gzip.compress(vhd_fixed(1 << 20).to_bytes()))
    (tmp_path / "schedules.toml").write_text(block("[[schedules]]"))
    (tmp_path / "letter.py").write_text(LETTER)
    (tmp_path / "script").write_text(script())
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("valkey")
def test_the_examples_run_as_they_stand(folder: Path, s3: "S3Client", moto_url: str, valkey_url: str) -> None:
    need("jq")
    for bucket in ("images", "bucket"):
        s3.create_bucket(Bucket=bucket)
        for key in OBJECTS:
            s3.put_object(Bucket=bucket, Key=key, Body=qcow2(1 << 30, allocated=2).to_bytes())
    env = commands.environment(
        KEYHOLE_S3_ENDPOINT_URL=moto_url,
        KEYHOLE_REDIS_URL=valkey_url,
        KEYHOLE_SCHEDULES="schedules.toml",
        KEYHOLE_DATA_DIR=folder / "data",
        **commands.S3_CREDENTIALS,
    )
    env["PATH"] = f"{folder / 'bin'}:{env['PATH']}"
    log = folder / "log"
    with commands.started("script", program=("bash",), env=env, log=log, cwd=folder) as process:
        code = process.wait(2 * commands.PATIENCE)
    assert code == 0, log.read_text()
