"""`submit` and `audit` say at once if no worker takes the work."""

import pytest
import redis

from keyhole.jobs.presence import Presence
from keyhole.jobs.queues import EVENTS
from tests.cli.conftest import Keyhole
from tests.e2e import commands

NOTE = (
    "No worker takes work at the moment. Start one with the same settings: keyhole worker. "
    "The work stays in the queue until then."
)
COMMANDS = (("submit", "s3://images/k"), ("audit", "--detach", "s3://images/"))


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_worker_one_line_says_what_to_do(
    keyhole: Keyhole, redis_url: str, command: tuple[str, ...]
) -> None:
    printed = keyhole(*command, KEYHOLE_REDIS_URL=redis_url)

    assert (printed.code, printed.err.splitlines()) == (0, [NOTE])


@pytest.mark.parametrize("command", COMMANDS)
def test_with_a_worker_there_is_nothing_to_say(
    keyhole: Keyhole, redis_url: str, valkey: redis.Redis, command: tuple[str, ...]
) -> None:
    Presence(valkey).beat("worker")

    printed = keyhole(*command, KEYHOLE_REDIS_URL=redis_url)

    assert (printed.code, printed.err) == (0, "")


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (COMMANDS[0], "queue keyhole.jobs"),
        (COMMANDS[1], "queues keyhole.housekeeping and keyhole.audits"),
    ],
)
def test_workers_that_take_only_other_queues_are_told(
    keyhole: Keyhole, redis_url: str, valkey: redis.Redis, command: tuple[str, ...], missing: str
) -> None:
    presence = Presence(valkey)
    presence.beat("worker", queues=(EVENTS,))

    printed = keyhole(*command, KEYHOLE_REDIS_URL=redis_url)

    assert printed.code == 0
    start = "Start one that takes all queues: keyhole worker. The work stays in the queue until then."
    assert printed.err.splitlines() == [f"Workers run, but none takes the {missing}. {start}"]
    # A worker of an earlier version does not state its queues.
    presence.beat("old")
    assert keyhole(*command, KEYHOLE_REDIS_URL=redis_url).err == ""


@pytest.mark.parametrize("command", [*COMMANDS, ("audit", "--dry-run", "s3://no-bucket/")])
def test_a_policy_that_the_workers_do_not_apply_is_told(
    keyhole: Keyhole, redis_url: str, valkey: redis.Redis, command: tuple[str, ...]
) -> None:
    presence = Presence(valkey)
    presence.beat("one", "5:azure")
    presence.beat("two", "5:default")
    presence.beat("old")

    def warned(policy: str | None) -> list[str]:
        chosen = {"KEYHOLE_POLICY": policy} if policy else {}
        printed = keyhole(*command, KEYHOLE_REDIS_URL=redis_url, **chosen)
        return [line for line in printed.err.splitlines() if line.startswith("Warning")]

    end = "The policy of the workers decides the verdicts."
    assert warned("gcp") == [
        f"Warning: KEYHOLE_POLICY of this command is gcp, but 2 of 3 workers apply azure, default. {end}"
    ]
    assert warned("default") == [
        f"Warning: KEYHOLE_POLICY of this command is default, but 1 of 3 workers applies azure. {end}"
    ]
    assert warned(None) == []
    presence.leave("two")
    presence.leave("old")
    assert warned("azure") == []
    assert warned("gcp") == [
        f"Warning: KEYHOLE_POLICY of this command is gcp, but the workers apply azure. {end}"
    ]


@pytest.mark.parametrize(
    "command", [("submit", "--wait", "s3://images/k"), ("audit", "s3://images/")], ids=["submit", "audit"]
)
def test_whoever_waits_is_told_and_waits_on(
    keyhole: Keyhole, redis_url: str, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("keyhole.jobs.wait.await_verdicts", interrupt)
    monkeypatch.setattr("keyhole.cli.audit.time.sleep", interrupt)

    printed = keyhole(*command, KEYHOLE_REDIS_URL=redis_url)

    assert printed.code == 130
    assert printed.err.splitlines()[0].endswith("keyhole worker. Still waiting.")


def test_a_pause_needs_no_worker(keyhole: Keyhole, redis_url: str) -> None:
    begun = keyhole("audit", "--detach", "s3://images/", KEYHOLE_REDIS_URL=redis_url)

    assert keyhole("audit", "--pause", begun.out.split()[1], KEYHOLE_REDIS_URL=redis_url).err == ""


@pytest.mark.slow
def test_without_redis_nothing_is_detached(env: dict[str, str]) -> None:
    done = commands.keyhole("audit", "--detach", "s3://images/", env=env)

    note, *_ = commands.lines(done.stderr)
    assert note.startswith("--detach has no effect, because no Redis is configured")


@pytest.mark.parametrize(
    ("command", "inspect"),
    [
        (("audit", "s3://images/a b/"), "keyhole inspect -r --policy azure 's3://images/a b/'"),
        (("audit", "s3://images/", "--dry-run"), "keyhole inspect -r --policy azure s3://images/"),
        (("audit", "--follow", "latest"), "keyhole inspect -r --policy azure s3://BUCKET/"),
        (("submit", "s3://images/k", "s3://images/l"), "keyhole inspect --policy azure s3://images/k"),
        (("submit", "-r", "s3://images/"), "keyhole inspect -r --policy azure s3://images/"),
    ],
)
@pytest.mark.parametrize("servers", [True, False], ids=["redis", "embedded"])
def test_a_policy_for_workers_is_refused_with_the_place_to_set_it_and_the_command_to_check(
    keyhole: Keyhole, command: tuple[str, ...], inspect: str, *, servers: bool
) -> None:
    """Nothing is queued. The Redis of this test does not exist."""
    redis_url = {"KEYHOLE_REDIS_URL": "redis://127.0.0.1:9/0"} if servers else {}
    where = "where the workers run" if servers else "for this command, which starts the worker"

    printed = keyhole(*command, "--policy", "azure", **redis_url)

    assert (printed.code, printed.out) == (2, "")
    assert printed.error == (
        f"there is no --policy here, because the policy of the workers decides; set KEYHOLE_POLICY {where}. "
        f"To check against another policy, without recording verdicts: {inspect}"
    )
