"""`keyhole listen`: the queue, its counts, its output, its health, and how it ends."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.intake.dead_letters import DeadLetters
from keyhole.intake.events.counters import EventCounters
from tests.cli.conftest import Keyhole
from tests.cli.terminal import terminal
from tests.e2e import commands
from tests.intake.events.aws_messages import POISON, message, record
from tests.slow import slow

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LIST = "events"
QUEUE = "keyhole:broker:keyhole.events"


@pytest.fixture
def env(env: dict[str, str], valkey_url: str, valkey: redis.Redis, tmp_path: Path) -> dict[str, str]:
    """An environment with an empty Redis, which also contains the queue of events."""
    valkey.ping()
    here = {"KEYHOLE_REDIS_URL": valkey_url, "KEYHOLE_EVENTS_URL": f"{valkey_url}/{LIST}"}
    return env | here | {"XDG_RUNTIME_DIR": str(tmp_path)}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def listener(env: dict[str, str], log: Path) -> "Iterator[Popen[bytes]]":
    """A running listener."""
    with commands.started("listen", env=env, log=log) as process:
        commands.until(lambda: log.exists() and b"listening" in log.read_bytes())
        yield process


def lines(log: Path) -> list[dict[str, Any]]:
    """The logged lines."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def first_sign(folder: Path) -> Path:
    """The first heartbeat of the listener, which follows its first line by a moment."""
    (sign,) = commands.until(lambda: list((folder / "keyhole").glob("*")))
    return Path(sign)


def queued(valkey: redis.Redis) -> int:
    """The number of jobs that wait for workers."""
    return valkey.llen(QUEUE)


class TestTheQueue:
    def test_must_be_named(self, keyhole: Keyhole) -> None:
        printed = keyhole("listen", KEYHOLE_EVENTS_URL="")

        assert printed.code == 2
        assert "KEYHOLE_EVENTS_URL" in printed.error

    @pytest.mark.parametrize(
        "url",
        [
            "mail://queue",
            "redis://:secret@host",
            "amqp://u:secret@host",
            "sqs://a/b?c",
            "redis://:sec#ret@h/0/k",
        ],
    )
    def test_must_be_one_and_its_password_is_told_nobody(self, keyhole: Keyhole, url: str) -> None:
        printed = keyhole("listen", url)

        assert printed.code == 2
        assert "redis://" in printed.error or "://" in printed.error
        assert "secret" not in printed.err

    @pytest.mark.slow
    def test_that_is_away_ends_who_listens_until_it_is_empty(self, env: dict[str, str]) -> None:
        done = commands.keyhole("listen", "--until-empty", "amqp://127.0.0.1:1/queue", env=env)

        assert done.returncode == 3
        assert "amqp://127.0.0.1:1/queue" in commands.lines(done.stderr)[-1]


class TestUntilEmpty:
    def test_it_takes_over_what_is_there(self, env: dict[str, str], valkey: redis.Redis) -> None:
        valkey.rpush(LIST, message(record("a"), record("b")), POISON, message(record(name="ObjectAcl:Put")))

        done = commands.keyhole("listen", "--until-empty", "--pollers", "2", env=env)

        assert done.returncode == 0, done.stderr
        assert done.stdout == b""
        told = json.loads(commands.lines(done.stderr)[-1])
        assert (told["event"], told["published"], told["dead"], told["ignored"]) == ("listened", 2, 1, 1)
        assert queued(valkey) == 2
        assert DeadLetters(valkey).count() == 1
        assert EventCounters(valkey).read()["received"] == 5
        assert valkey.llen(LIST) == 0

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("settings", "options", "chosen"),
        [
            ({"KEYHOLE_EVENTS_SUFFIXES": ".vmdk"}, ("--suffix", ".img", "--suffix", ".iso"), 3),
            (
                {"KEYHOLE_EVENTS_EXCLUDE": "*.vmdk, *.no", "KEYHOLE_EVENTS_MAX_SIZE": "1KiB"},
                ("--bucket", "im*"),
                2,
            ),
        ],
    )
    def test_options_go_before_settings(
        self,
        env: dict[str, str],
        valkey: redis.Redis,
        settings: dict[str, str],
        options: tuple[str, ...],
        chosen: int,
    ) -> None:
        objects = [record(name) for name in ("a.img", "b.iso", "c.vmdk")]
        valkey.rpush(LIST, message(*objects, record("d.img", bucket="other"), record("e.vmdk", size=1025)))

        done = commands.keyhole("listen", "--until-empty", *options, env=env | settings)

        assert done.returncode == 0, done.stderr
        assert queued(valkey) == chosen


class TestItIsToldToStop:
    @pytest.mark.parametrize("how", [slow(signal.SIGTERM), slow(signal.SIGINT), slow(signal.SIGHUP)])
    def test_it_ends_when_nothing_is_left_to_do(
        self, listener: "Popen[bytes]", valkey: redis.Redis, log: Path, how: signal.Signals
    ) -> None:
        valkey.rpush(LIST, message(record("a")))
        commands.until(lambda: queued(valkey) == 1)

        listener.send_signal(how)

        assert listener.wait(commands.PATIENCE) == 0
        assert lines(log)[-1]["published"] == 1
        assert [key for key in valkey.scan_iter() if b"listener" in key] == []

    @pytest.mark.slow
    def test_a_second_time_it_ends_at_once(self, listener: "Popen[bytes]", log: Path) -> None:
        listener.send_signal(signal.SIGTERM)
        listener.send_signal(signal.SIGINT)

        assert listener.wait(commands.PATIENCE) == 130
        assert lines(log)[-1]["event"] == "interrupted"


class TestHealth:
    @pytest.mark.slow
    def test_it_is_well_while_it_listens(self, listener: "Popen[bytes]", keyhole: Keyhole) -> None:
        printed = keyhole("listen", "--check")
        assert printed.code == 0
        assert "is healthy" in printed.out
        assert keyhole("listen", "--check", KEYHOLE_EVENTS_URL="redis://other/0/key").code == 1

        listener.terminate()
        listener.wait(commands.PATIENCE)
        printed = keyhole("listen", "--check")
        assert printed.code == 1
        assert "no listener" in printed.error

    @pytest.mark.slow
    def test_it_is_not_when_it_is_silent(
        self, listener: "Popen[bytes]", keyhole: Keyhole, tmp_path: Path
    ) -> None:
        sign = first_sign(tmp_path)
        listener.send_signal(signal.SIGSTOP)
        os.utime(sign, (0, 0))

        printed = keyhole("listen", "--check")

        assert printed.code == 1
        assert "sent its last heartbeat" in printed.error
        listener.send_signal(signal.SIGCONT)

    @pytest.mark.slow
    def test_each_turn_is_a_sign(self, listener: "Popen[bytes]", valkey: redis.Redis, tmp_path: Path) -> None:
        assert listener.poll() is None
        sign = first_sign(tmp_path)
        os.utime(sign, (0, 0))

        valkey.rpush(LIST, message(record("a")))

        commands.until(lambda: sign.stat().st_mtime > 0)


class TestOnATerminal:
    @pytest.mark.slow
    def test_it_shows_live_counts_and_ends_by_ctrl_c(self, env: dict[str, str], valkey: redis.Redis) -> None:
        with terminal("listen", env=env) as screen:
            commands.until(lambda: "messages" in screen.printed)
            valkey.rpush(LIST, message(record("a")), POISON)
            commands.until(lambda: "see `keyhole dead list`" in screen.printed)

            screen.process.send_signal(signal.SIGINT)

            assert screen.ended() == 0
        assert "press Ctrl-C again" in screen.printed
        last = screen.text[screen.text.rindex("listening to") :]
        assert "Ctrl-C" not in last
        assert ["objects", "to", "scan", "1"] in [line.split() for line in last.splitlines()]

    @pytest.mark.slow
    def test_it_says_what_is_away(self, env: dict[str, str]) -> None:
        with terminal("listen", "amqp://127.0.0.1:1/queue", env=env) as screen:
            commands.until(lambda: "unreachable, retrying" in screen.printed)
            screen.process.send_signal(signal.SIGINT)

            assert screen.ended() == 0


class TestWithNothingConfigured:
    @pytest.mark.slow
    def test_it_scans_by_itself_and_waits_for_the_verdicts(
        self, env: dict[str, str], valkey: redis.Redis, s3: "S3Client", bucket: str
    ) -> None:
        """The command uses its own Valkey and worker, which end with it."""
        s3.put_object(Bucket=bucket, Key="a.qcow2", Body=qcow2(1024**3).to_bytes())
        valkey.rpush(LIST, message(record("a.qcow2", bucket=bucket)))
        del env["KEYHOLE_REDIS_URL"]

        done = commands.keyhole("listen", "--until-empty", env=env)

        assert done.returncode == 0, done.stderr
        assert commands.keyhole("show", f"s3://{bucket}/a.qcow2", env=env).returncode == 0
        assert queued(valkey) == 0
