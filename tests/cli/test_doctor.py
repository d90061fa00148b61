"""`keyhole doctor`: its findings about a running site."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import redis

from keyhole.api import connections
from keyhole.app import SENT_AT, app
from keyhole.cli.doctor_check import Check, checked
from keyhole.cli.findings import Finding
from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.audits.store import AuditStore
from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.presence import Presence
from keyhole.jobs.queues import JOBS
from keyhole.jobs.signatures import read_keys
from keyhole.jobs.tag_debts import TagDebts
from keyhole.results.tags import TagDebt
from keyhole.scan.policy import RULESET
from keyhole.store import keys
from tests.cli.conftest import CHECK_SECONDS, Keyhole
from tests.e2e.commands import until
from tests.ports import free_port
from tests.servers.portal import portal
from tests.servers.scripted_s3 import BUCKET, ScriptedS3, refuse


@pytest.fixture
def env(env: dict[str, str], redis_url: str) -> dict[str, str]:
    """An environment with a Redis and an S3, and without a worker."""
    env["KEYHOLE_REDIS_URL"] = redis_url
    return env


@pytest.fixture(autouse=True)
def _no_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyhole.cli.doctor_broker.PING_SECONDS", 0.05)


def told(keyhole: Keyhole, what: str, **settings: object) -> list[tuple[str, str]]:
    """The doctor's lines about a subject: the state and the text."""
    found = [json.loads(line) for line in keyhole("doctor", "--json", **settings).lines]
    return [(one["state"], one["message"]) for one in found if one["what"] == what]


class TestWork:
    def test_nothing_to_do_is_well(self, keyhole: Keyhole) -> None:
        assert told(keyhole, "jobs") == [("ok", "0 open")]
        assert told(keyhole, "dead letters") == [("ok", "none")]
        assert told(keyhole, "audits") == [("ok", "none running")]

    def test_jobs_that_nobody_looks_after_are_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        ledger = Ledger(valkey, done_seconds=60)
        ledger.record(Entry("old", (ScanJob(bucket="b", key="k"),)))
        ((state, message),) = told(keyhole, "jobs")
        assert (state, "no worker has checked them yet" in message) == ("advice", True)

        ledger.claim_sweep(9)
        assert told(keyhole, "jobs")[0][0] == "ok"

        # Without workers, the ledger's clock does not advance.
        valkey.hincrbyfloat(keys.LEDGER_CLOCK, "server", -10_000)

        ((state, message),) = told(keyhole, "jobs")
        assert state == "advice"
        assert "1 open, the longest without progress for 10,0" in message
        assert "no worker has checked them for 10,0" in message
        assert "keyhole.housekeeping" in message

    def test_who_is_busy_hangs_or_is_lost_is_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        assert told(keyhole, "work in hand") == [("ok", "no process is busy")]
        ledger = Ledger(valkey, done_seconds=60)
        for entry_id, worker in (("a", "host/1:7:1"), ("b", "host/1:8:1"), ("c", "host/1:9:1")):
            entry = Entry(entry_id, (ScanJob(bucket="b", key="k"),))
            ledger.record(entry)
            ledger.leases.acquire(entry, worker)
        valkey.set(keys.alive("host/1:7:1"), "12")
        valkey.set(keys.alive("host/1:8:1"), "99999")
        valkey.zincrby(keys.ledger_held(JOBS), -100, "c")

        (hangs, lost, busy) = told(keyhole, "work in hand")

        limit = app.conf.task_time_limit
        assert hangs == (
            "bad",
            (
                f"host/1:8:1 has been busy with an entry for 99,999 s, but the limit is {limit:g} s: it "
                "hangs; restart its worker, and check its log"
            ),
        )
        assert lost[0] == "advice"
        assert lost[1].startswith("host/1:9:1 works on 1 entries, but has been silent for 10")
        assert busy == ("ok", "3 processes are busy")

    def test_why_scans_failed_of_late_is_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        assert told(keyhole, "failures") == [("ok", "none in the last 10 minutes")]
        attempts = Ledger(valkey, done_seconds=60).attempts
        for reason in ("network", "slow_down", "network"):
            attempts.undecided("job", reason, "", bucket="images")
        attempts.undecided("other", "not_recorded", "")

        assert told(keyhole, "failures") == [
            (
                "advice",
                (
                    "s3://images/: 2 times network, 1 times slow_down in the last 10 minutes; "
                    "these scans are retried"
                ),
            )
        ]
        (counts,) = valkey.keys(keys.FAILURES_PREFIX + "*")
        assert 0 < valkey.ttl(counts) <= 1800

        valkey.hincrbyfloat(keys.LEDGER_CLOCK, "server", -11 * 60)

        assert told(keyhole, "failures") == [("ok", "none in the last 10 minutes")]

    def test_what_waits_in_a_queue_is_told_with_its_age(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        assert ("ok", "keyhole.jobs: 0 waiting") in told(keyhole, "queue")
        for key in ("k", "l"):
            assert keyhole("submit", f"s3://images/{key}").code == 0
        ((state, message),) = [one for one in told(keyhole, "queue") if "jobs" in one[1]]
        assert state == "ok"
        assert message.startswith("keyhole.jobs: 2 waiting, the oldest for ")

        queue = "keyhole:broker:keyhole.jobs"
        item = json.loads(valkey.rpop(queue) or b"")
        item["headers"][SENT_AT] -= 1000
        valkey.rpush(queue, json.dumps(item))

        ((state, message),) = [one for one in told(keyhole, "queue") if "jobs" in one[1]]
        assert state == "advice"
        assert message.startswith("keyhole.jobs: 2 waiting, the oldest for 1,0")

    def test_dead_letters_are_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        DeadLetters(valkey).add(Dead.message(b"?", "sqs://q", "it is not JSON"))

        assert told(keyhole, "dead letters") == [("advice", "1; list them with `keyhole dead list`")]

    def test_tags_that_are_owed_are_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        TagDebts(valkey).record(TagDebt("images", "a.qcow2"))

        ((state, message),) = told(keyhole, "tags owed")

        assert state == "advice"
        assert message.startswith("not written yet for 1 object;")

    def test_an_audit_that_does_not_get_on_is_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        store = AuditStore(valkey, expiry_seconds=None)
        store.create("a1", AuditSpec(bucket="images"), ruleset="1", scanner="x")
        assert told(keyhole, "audits") == [("ok", "1 running")]

        store.record_trouble("a1", "S3 is away; it is tried again")

        assert told(keyhole, "audits") == [("bad", "a1 makes no progress: S3 is away; it is tried again")]

    def test_workers_that_apply_different_rules_are_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        presence = Presence(valkey)
        presence.beat("old")
        presence.beat("one", f"{RULESET}:azure")
        assert told(keyhole, "rules", KEYHOLE_POLICY="azure") == []

        ((state, message),) = told(keyhole, "rules")
        assert state == "advice"
        assert message.startswith(
            f"workers apply {RULESET}:azure, but these settings state {RULESET}:default; `keyhole submit`"
        )

        presence.beat("two", f"{RULESET}:default")
        presence.beat("three", f"{RULESET}:default")
        ((state, message),) = told(keyhole, "rules")
        assert state == "advice"
        assert f"{RULESET}:azure (one); {RULESET}:default (three, two); run the same version" in message

    def test_workers_that_have_different_sinks_are_told(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        presence = Presence(valkey)
        first = told(keyhole, "sinks")
        presence.beat("old", f"{RULESET}:default")
        presence.beat("one", f"{RULESET}:default", ("tags", "redis"))
        assert told(keyhole, "sinks", KEYHOLE_SINKS="redis,tags") == [("ok", "verdicts go to redis, tags")]

        *rest, (state, message) = told(keyhole, "sinks")
        assert (rest, state) == (first, "advice")
        assert message == (
            "verdicts of the workers go to redis,tags, but these settings state redis; set the same "
            "KEYHOLE_SINKS for the workers and for commands"
        )

        presence.beat("two", f"{RULESET}:default", ("redis",))
        presence.beat("three", f"{RULESET}:default", ("redis",))
        *rest, (state, message) = told(keyhole, "sinks")
        assert (rest, state) == (first, "advice")
        assert "depends on the worker: redis (three, two); redis,tags (one); set the same" in message


class TestRedis:
    @pytest.fixture(autouse=True)
    def _as_it_was(self, valkey: redis.Redis) -> Iterator[None]:
        yield
        valkey.replicaof("NO", "ONE")
        for name, value in (("maxmemory", 0), ("maxmemory-policy", "noeviction"), ("appendonly", "no")):
            valkey.config_set(name, value)

    @staticmethod
    def all_is_told(keyhole: Keyhole) -> bool:
        """Assert that the doctor reports every other subject, whatever is wrong with Redis."""
        about = {json.loads(line)["what"] for line in keyhole("doctor", "--json").lines}
        return about >= {
            "jobs",
            "work in hand",
            "failures",
            "dead letters",
            "audits",
            "queue",
            "workers",
            "s3",
        }

    def test_what_it_promises(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        assert told(keyhole, "redis role") == [("ok", "primary, 0 replicas")]
        assert told(keyhole, "redis disk")[0][0] == "advice"

        valkey.config_set("appendonly", "yes")
        valkey.config_set("maxmemory", 1 << 30)

        ((state, message),) = told(keyhole, "redis disk")
        assert state == "ok"
        assert "everysec" in message
        assert "accepted jobs are on disk" in message
        assert told(keyhole, "redis memory")[0][1].endswith("of 1 GiB in use")

    def test_one_that_never_says_what_is_on_its_disk(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        valkey.config_set("appendonly", "yes")
        valkey.config_set("appendfsync", "no")

        ((state, message),) = told(keyhole, "redis disk")

        assert state == "bad"
        assert "Keyhole accepts no jobs" in message
        valkey.config_set("appendfsync", "everysec")

    def test_one_that_is_full(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        Ledger(valkey, done_seconds=60).record(Entry("a", (ScanJob(bucket="b", key="k"),)))
        valkey.config_set("maxmemory", 1)

        ((state, message),) = told(keyhole, "redis memory")

        assert state == "bad"
        assert message.startswith("full, ")
        assert told(keyhole, "jobs")[0][1].startswith("1 open")
        assert "broker refuses the ping" in told(keyhole, "workers")[0][1]
        assert self.all_is_told(keyhole)

    def test_one_that_evicts(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        valkey.config_set("maxmemory-policy", "allkeys-lru")

        assert "silently deletes jobs" in told(keyhole, "redis memory")[0][1]

    def test_one_that_is_a_replica(self, keyhole: Keyhole, valkey: redis.Redis) -> None:
        port = free_port()
        valkey.replicaof("127.0.0.1", port)

        ((state, message),) = told(keyhole, "redis role")

        assert state == "bad"
        assert message.startswith(f"a replica of 127.0.0.1:{port}, which accepts no writes")
        assert self.all_is_told(keyhole)

    @pytest.mark.parametrize(
        ("denied", "expected", "words"),
        [
            ([], "ok", "accepted jobs are on disk (WAITAOF)"),
            (["-waitaof"], "advice", "it is unknown whether the server has WAITAOF"),
        ],
    )
    def test_one_that_is_managed_does_not_tell_all(
        self, keyhole: Keyhole, valkey: redis.Redis, denied: list[str], expected: str, words: str
    ) -> None:
        valkey.config_set("appendonly", "yes")
        valkey.acl_setuser(
            "managed",
            enabled=True,
            passwords=["+secret"],
            categories=["+@all"],
            commands=["-config", "-command", *denied],
            keys=["*"],
            channels=["*"],
        )
        port = valkey.connection_pool.connection_kwargs["port"]
        url = f"redis://managed:secret@127.0.0.1:{port}"

        ((state, message),) = told(keyhole, "redis disk", KEYHOLE_REDIS_URL=url)

        assert state == expected
        assert "the doctor cannot tell what a crash loses" in message
        assert words in message
        assert told(keyhole, "redis", KEYHOLE_REDIS_URL=url)[0][1].endswith(f"redis://***@127.0.0.1:{port}")
        valkey.acl_deluser("managed")

    def test_one_that_is_frozen(
        self, keyhole: Keyhole, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("doctor_redis", "doctor_broker"):
            monkeypatch.setattr(f"keyhole.cli.{module}.ANSWER_SECONDS", 0.2)
        server = int(valkey.info("server")["process_id"])
        os.kill(server, signal.SIGSTOP)
        try:
            found = [json.loads(line) for line in keyhole("doctor", "--json").lines]
        finally:
            os.kill(server, signal.SIGCONT)

        bad = {one["what"] for one in found if one["state"] == "bad"}
        assert bad == {"redis", "broker"}
        assert {"sinks", "events", "s3", "credentials"} <= {one["what"] for one in found}


class TestS3:
    @pytest.fixture(autouse=True)
    def _anew(self) -> Iterator[None]:
        """A process makes its S3 client once, but here several commands run in one process."""
        connections._shared_s3.cache_clear()
        yield
        connections._shared_s3.cache_clear()

    def test_a_profile_that_does_not_exist_hides_no_other_finding(self, keyhole: Keyhole) -> None:
        assert told(keyhole, "s3", AWS_PROFILE="nope") == [
            (
                "bad",
                (
                    "The config profile (nope) could not be found; set AWS_PROFILE to a profile that "
                    "~/.aws/config or ~/.aws/credentials has"
                ),
            )
        ]
        assert told(keyhole, "jobs", AWS_PROFILE="nope") == [("ok", "0 open")]


class TestIntakes:
    def test_the_events_are_told_without_their_password(self, keyhole: Keyhole) -> None:
        assert "KEYHOLE_EVENTS_URL" in told(keyhole, "events")[0][1]

        place = f"127.0.0.1:{free_port()}/queue"
        printed = keyhole("doctor", "--json", KEYHOLE_EVENTS_URL=f"amqp://me:secret@{place}")

        (found,) = [found for found in map(json.loads, printed.lines) if found["what"] == "events"]
        assert found["state"] == "bad"
        assert found["message"].startswith(f"amqp://{place}: [Errno 111] Connection refused; check ")
        assert "secret" not in printed.out + printed.err

    def test_events_that_name_no_queue_are_bad(self, keyhole: Keyhole) -> None:
        ((state, message),) = told(keyhole, "events", KEYHOLE_EVENTS_URL="garbage")

        assert state == "bad"
        assert message.startswith("KEYHOLE_EVENTS_URL is wrong: it is not the URL of a queue; write ")


class TestAnyTrouble:
    """If a check raises an exception of any kind, the other checks are still reported."""

    class PanicError(BaseException):
        """An error like pyo3's, which is not an `Exception`."""

    @pytest.mark.parametrize(
        "check",
        ["doctor._settings", "doctor.of_redis", "doctor_work.of_work", "doctor.of_s3", "doctor.of_events"],
    )
    def test_what_a_check_raises_is_a_finding(
        self, keyhole: Keyhole, monkeypatch: pytest.MonkeyPatch, check: str
    ) -> None:
        def fails(*_: object, **__: object) -> Iterator[Finding]:
            yield Finding("first", "ok", "kept")
            raise self.PanicError("in Rust")

        monkeypatch.setattr(f"keyhole.cli.{check}", fails)

        printed = keyhole("doctor", "--json")

        found = [json.loads(line) for line in printed.lines]
        assert printed.code == 3
        assert {"what": "first", "state": "ok", "message": "kept"} in found
        assert "the check failed: PanicError: in Rust" in [one["message"] for one in found]
        assert "broker" in {one["what"] for one in found}

    def test_one_that_hangs_is_left_behind(self) -> None:
        ended, told = threading.Event(), threading.Event()

        def hangs() -> Iterator[Finding]:
            yield Finding("first", "ok", "kept")
            told.set()
            ended.wait()

        check = Check("it", hangs, seconds=0.1)
        told.wait()
        first, second = check.findings()
        ended.set()

        assert first.what == "first"
        assert second == (
            "it",
            "bad",
            (
                "the check took longer than 0.1 s; "
                "the server does not answer in time: check that it runs, and check the firewall"
            ),
        )

    def test_one_that_knows_why_it_is_late_tells_it(self) -> None:
        ended = threading.Event()

        def hangs() -> Iterator[Finding]:
            ended.wait()
            yield from ()

        (late,) = Check("it", hangs, seconds=0.1, why_late=lambda: "a page came").findings()
        ended.set()

        assert late == ("it", "bad", "the check took longer than 0.1 s; a page came")

    def test_one_that_finds_something_now_and_then_has_no_longer(self) -> None:
        """It would find something for ever."""
        ended = threading.Event()

        def goes_on() -> Iterator[Finding]:
            while not ended.wait(0.05):
                yield Finding("it", "ok", "more")

        *_, last = Check("it", goes_on, seconds=0.3).findings()
        ended.set()

        assert last.state == "bad"

    def test_several_that_hang_take_no_longer_than_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """They run at the same time: each of them waits until all have begun, and none is too late."""
        monkeypatch.setattr("keyhole.cli.doctor_check.DEADLINE", CHECK_SECONDS)
        begun = threading.Barrier(5)

        def waits() -> Iterator[Finding]:
            yield Finding(str(begun.wait()), "ok", "begun")

        found = checked(*[("it", waits)] * 5)

        assert sorted(finding.what for findings in found for finding in findings) == list("01234")


class TestBucket:
    @pytest.mark.parametrize(
        ("code", "state"),
        [("AccessDenied", "advice"), ("SignatureDoesNotMatch", "bad"), ("RequestTimeTooSkewed", "bad")],
    )
    def test_a_listing_that_fails_is_bad_unless_it_is_only_denied(
        self, keyhole: Keyhole, scripted: ScriptedS3, code: str, state: str
    ) -> None:
        scripted.script(then=refuse(403, code))

        printed = keyhole("doctor", "--json", f"s3://{BUCKET}/", KEYHOLE_S3_ENDPOINT_URL=scripted.url)

        (finding,) = [found for found in map(json.loads, printed.lines) if found["what"] == "list"]
        assert finding["state"] == state
        assert ("s3:ListBucket" in finding["message"]) is (state == "advice")

    def test_a_page_in_place_of_an_object_is_told_with_its_url(self, keyhole: Keyhole) -> None:
        """The check tries again and again, until its time is over."""

        def found() -> str:
            printed = keyhole("doctor", "--json", f"s3://{BUCKET}/a.qcow2", KEYHOLE_S3_ENDPOINT_URL=url)
            findings = map(json.loads, printed.lines)
            (read,) = [finding for finding in findings if finding["what"] == "read"]
            assert read["state"] == "bad"
            return str(read["message"])

        with portal() as url:
            # On a busy machine, the doctor's time can be over before an answer came.
            until(lambda: f"{url} answers with a page that is not an object of S3" in found())


class TestWhoGetsIn:
    def test_which_buckets_are_touched_is_told(self, keyhole: Keyhole) -> None:
        assert "KEYHOLE_BUCKETS" in told(keyhole, "buckets")[0][1]
        assert told(keyhole, "buckets", KEYHOLE_BUCKETS="uploads,images-*") == [
            ("ok", "only uploads, images-*")
        ]

    def test_a_bucket_that_is_not_touched_is_bad(self, keyhole: Keyhole) -> None:
        printed = keyhole("doctor", "--json", "s3://payroll/key", KEYHOLE_BUCKETS="images-*")
        (found,) = [json.loads(line) for line in printed.lines if '"bucket"' in line]
        assert (found["state"], found["message"]) == (
            "bad",
            "KEYHOLE_BUCKETS does not allow the bucket 'payroll'",
        )

    def test_which_key_signs_is_told(self, keyhole: Keyhole, tmp_path: Path) -> None:
        assert "KEYHOLE_SIGNING_KEY_FILE" in told(keyhole, "messages")[0][1]
        path = tmp_path / "key"
        path.touch(mode=0o600)
        path.write_text(f"{sha256(b'new').hexdigest()}\n{sha256(b'old').hexdigest()}\n")
        new, old = (key.id for key in read_keys(path).keys)
        assert told(keyhole, "messages", KEYHOLE_SIGNING_KEY_FILE=path) == [
            ("ok", f"signed with the key {new}; signatures of {old} are accepted, too")
        ]


def test_a_waiver_that_has_ended_is_advice(keyhole: Keyhole, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[[waivers]]\nbucket = "b"\nkey = "a\\u001b[2J"\ncheck = "dirty"\nreason = "r"\nuntil = 2020-01-01\n'
    )

    done = keyhole("doctor", KEYHOLE_POLICY=policy)

    assert "the waiver for dirty in s3://b/a\\x1b[2J ended on 2020-01-01" in " ".join(done.out.split())
