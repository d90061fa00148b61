"""`keyhole doctor`: what it says of the work that is there."""

import json
from collections.abc import Iterator

import pytest
import redis

from tests.cli.conftest import Keyhole
from worker import api
from worker.intake.audits.audit import AuditSpec
from worker.intake.audits.store import AuditStore
from worker.intake.dead_letters import Dead, DeadLetters
from worker.jobs.job import ScanJob
from worker.jobs.ledger import Entry, Ledger
from worker.jobs.queues import JOBS
from worker.jobs.tag_debts import TagDebts
from worker.results import keys
from worker.results.tags import TagDebt


@pytest.fixture
def env(env: dict[str, str], redis_url: str) -> dict[str, str]:
    """An environment with a Redis and an S3, and no worker."""
    env["KEYHOLE_REDIS_URL"] = redis_url
    return env


@pytest.fixture(autouse=True)
def _no_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.cli.doctor.PING_SECONDS", 0.05)


def told(keyhole: Keyhole, what: str, **settings: object) -> list[tuple[str, str]]:
    """The doctor's lines about something: how it is, and what there is to say."""
    found = [json.loads(line) for line in keyhole("doctor", "--json", **settings).lines]
    return [(one["state"], one["message"]) for one in found if one["what"] == what]


class TestWork:
    def test_nothing_to_do_is_well(self, keyhole: Keyhole) -> None:
        assert told(keyhole, "jobs") == [("ok", "0 open")]
        assert told(keyhole, "dead letters") == [("ok", "none")]
        assert told(keyhole, "audits") == [("ok", "none running")]

    def test_jobs_that_nobody_looks_after_are_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        Ledger(valkey, done_seconds=60).note(Entry("old", (ScanJob(bucket="b", key="k"),)))
        assert told(keyhole, "jobs")[0][0] == "ok"

        valkey.zincrby(keys.ledger_open(JOBS), -10_000, "old")

        ((state, message),) = told(keyhole, "jobs")
        assert state == "advice"
        assert "1 open, the oldest silent for 10,0" in message
        assert "keyhole.housekeeping" in message

    def test_dead_letters_are_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        DeadLetters(valkey).add(Dead.message(b"?", "sqs://q", "it is no JSON"))

        assert told(keyhole, "dead letters") == [("advice", "1; look at them by `keyhole dead list`")]

    def test_tags_that_are_owed_are_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        TagDebts(valkey).note(TagDebt("images", "a.qcow2"))

        ((state, message),) = told(keyhole, "tags owed")

        assert state == "advice"
        assert message.startswith("1 could not be written yet")

    def test_an_audit_that_does_not_get_on_is_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        store = AuditStore(valkey, expiry_seconds=None)
        store.create("a1", AuditSpec(bucket="images"), ruleset="1", scanner="x")
        assert told(keyhole, "audits") == [("ok", "1 running")]

        store.note_trouble("a1", "S3 is away; it is tried again")

        assert told(keyhole, "audits") == [("bad", "a1 does not get on: S3 is away; it is tried again")]


class TestS3:
    @pytest.fixture(autouse=True)
    def _anew(self) -> Iterator[None]:
        """A process makes its way to S3 once; here several commands are of one process."""
        api._access.cache_clear()
        yield
        api._access.cache_clear()

    def test_a_profile_that_does_not_exist_hides_no_other_finding(self, keyhole: Keyhole) -> None:
        assert told(keyhole, "s3", AWS_PROFILE="nope") == [
            ("bad", "The config profile (nope) could not be found; see `keyhole doctor`")
        ]
        assert told(keyhole, "jobs", AWS_PROFILE="nope") == [("ok", "0 open")]


class TestIntakes:
    def test_the_events_are_told_without_their_password(self, keyhole: Keyhole) -> None:
        assert "KEYHOLE_EVENTS_URL" in told(keyhole, "events")[0][1]

        printed = keyhole("doctor", "--json", KEYHOLE_EVENTS_URL="amqp://me:secret@127.0.0.1/queue")

        assert "listen --check" in printed.out
        assert "secret" not in printed.out + printed.err
