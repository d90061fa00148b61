"""The gauges are what Redis and its broker contain, read in one round trip."""

import json
import time
from contextlib import nullcontext

import redis

from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.audits.store import AuditStore
from keyhole.intake.dead_letters import Dead, DeadLetters, LetterKind
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.message_age import SENT_AT
from keyhole.jobs.presence import Presence
from keyhole.jobs.queues import AUDITS, EVENTS, JOBS, QUEUES
from keyhole.metrics.gauges import StoreGauges
from keyhole.metrics.store_reader import Backlog, BrokerReader, StoreReader
from keyhole.store import keys
from keyhole.store.connection import connect
from tests.ports import free_port

PREFIX = "keyhole:broker:"


def entry(entry_id: str, queue: str = JOBS) -> Entry:
    return Entry(entry_id, (ScanJob(id=entry_id, bucket="images", key="a"),), queue)


def test_an_empty_redis_has_zeros(valkey: redis.Redis) -> None:
    reading = StoreReader(valkey, prefix=PREFIX).read()

    assert (reading.undecided, reading.workers, reading.audits, reading.progress) == (0, 0, 0, {})
    assert reading.dead == dict.fromkeys((*LetterKind, "other"), 0)
    assert reading.unacknowledged == dict.fromkeys(QUEUES, 0)
    assert reading.backlog == Backlog(dict.fromkeys(QUEUES, 0), dict.fromkeys(QUEUES, 0.0))


def test_the_gauges_count_what_is_in_redis(valkey: redis.Redis) -> None:
    # Given two waiting messages, a leased entry, a postponed entry, dead letters, a worker and an audit
    for age in (30, 20):  # kombu adds messages on the left
        valkey.lpush(PREFIX + JOBS, json.dumps({"headers": {SENT_AT: time.time() - age}}))
    ledger = Ledger(valkey, done_seconds=3600)
    ledger.record_many([entry("leased", EVENTS), entry("later")])
    ledger.leases.acquire(entry("leased", EVENTS), "worker")
    ledger.leases.acquire(entry("later"), "worker")
    ledger.leases.release(entry("later"), "worker", postponed=60)
    DeadLetters(valkey).add(Dead.entry(entry("dead"), "it failed"))
    valkey.zadd(keys.DEAD, {"of a later version": 1})
    Presence(valkey).beat("worker@host")
    audits = AuditStore(valkey, expiry_seconds=None)
    for name, state in (("a", "running"), ("b", "running"), ("c", "paused")):
        audits.create(name, AuditSpec(bucket="images"), ruleset="", scanner="")
        valkey.hset(keys.audit(name), "state", state)
        valkey.hset(keys.audit(name, "totals"), mapping={"listed": 10, "scanned": 4, "unchanged": 2})
    before = calls(valkey)
    # When the gauges are read
    reading = StoreReader(valkey, prefix=PREFIX).read()
    # Then they have these values, and there was one call of a script
    assert calls(valkey) == before + 1
    assert reading.backlog is not None
    assert reading.backlog.messages == {**dict.fromkeys(QUEUES, 0), JOBS: 2}
    assert 30 <= reading.backlog.oldest[JOBS] < 60
    assert reading.unacknowledged == {**dict.fromkeys(QUEUES, 0), EVENTS: 1}
    assert (reading.undecided, reading.workers, reading.audits) == (1, 1, 2)
    assert {kind: number for kind, number in reading.dead.items() if number} == {"job": 1, "other": 1}
    assert reading.progress == {"images": 0.6}


def calls(valkey: redis.Redis) -> int:
    return int(valkey.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def test_the_progress_has_a_bounded_number_of_buckets(valkey: redis.Redis) -> None:
    audits = AuditStore(valkey, expiry_seconds=None)
    for number in range(30):
        audits.create(f"audit{number}", AuditSpec(bucket=f"bucket-{number}"), ruleset="", scanner="")

    reading = StoreReader(valkey, prefix=PREFIX).read()

    assert (reading.audits, len(reading.progress)) == (30, 20)


def test_the_queues_of_another_redis_are_read_too(valkey: redis.Redis) -> None:
    valkey.lpush(PREFIX + AUDITS, "not a message")

    backlog = BrokerReader(valkey, prefix=PREFIX).read()

    assert backlog.messages == {**dict.fromkeys(QUEUES, 0), AUDITS: 1}
    assert backlog.oldest == dict.fromkeys(QUEUES, 0.0)


def shown(gauges: StoreGauges) -> dict[tuple[str, str], float]:
    """The values of the gauges by name and first label."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in gauges.collect()
        for sample in family.samples
    }


def test_without_the_age_of_messages_the_ledger_states_it(valkey: redis.Redis) -> None:
    """RabbitMQ and SQS report only the number of messages."""
    Ledger(valkey, done_seconds=3600).record(entry("idle", AUDITS))
    (score,) = (score for _, score in valkey.zrange(keys.ledger_open(AUDITS), 0, 0, withscores=True))
    valkey.zadd(keys.ledger_open(AUDITS), {"idle": score - 100})

    found = shown(
        StoreGauges(
            StoreReader(valkey, prefix=None).read, nullcontext, lambda: Backlog({AUDITS: 1, JOBS: 0}, {})
        )
    )

    assert 100 <= found["keyhole_queue_oldest_seconds", AUDITS] < 160
    assert found["keyhole_queue_oldest_seconds", JOBS] == 0


def test_a_broker_that_is_away_hides_only_the_numbers_of_its_messages(valkey: redis.Redis) -> None:
    nobody = connect(f"redis://127.0.0.1:{free_port()}/0", answer_seconds=1, retries=0)
    Ledger(valkey, done_seconds=3600).record(entry("idle", EVENTS))
    (score,) = (score for _, score in valkey.zrange(keys.ledger_open(EVENTS), 0, 0, withscores=True))
    valkey.zadd(keys.ledger_open(EVENTS), {"idle": score - 100})

    found = shown(
        StoreGauges(
            StoreReader(valkey, prefix=None).read, nullcontext, BrokerReader(nobody, prefix=PREFIX).read
        )
    )

    assert found["keyhole_store_up", ""] == 1
    assert found["keyhole_queue_unacknowledged", JOBS] == 0
    assert ("keyhole_queue_messages", JOBS) not in found
    # The ledger has the age without the broker.
    assert 100 <= found["keyhole_queue_oldest_seconds", EVENTS] < 160
    assert found["keyhole_queue_oldest_seconds", JOBS] == 0


def test_a_redis_that_is_away_is_a_gauge_of_zero() -> None:
    nobody = connect(f"redis://127.0.0.1:{free_port()}/0", answer_seconds=1, retries=0)
    gauges = StoreGauges(StoreReader(nobody, prefix=PREFIX).read, nullcontext)

    assert shown(gauges) == {("keyhole_store_up", ""): 0}


def test_a_worker_that_is_silent_is_not_counted(valkey: redis.Redis) -> None:
    presence = Presence(valkey)
    presence.beat("a")
    valkey.zadd(keys.WORKERS, {"silent": time.time() - 31})

    assert presence.names() == ["a"]
    assert StoreReader(valkey, prefix=PREFIX).read().workers == 1
    presence.beat("b")
    assert valkey.zcard(keys.WORKERS) == 2
    presence.leave("a")
    assert presence.names() == ["b"]


def test_a_worker_states_its_ruleset_and_its_sinks_and_its_queues(valkey: redis.Redis) -> None:
    presence = Presence(valkey)
    presence.beat("a", "5:azure", ("redis", "tags"), (JOBS, EVENTS))
    presence.beat("b", "5:azure", ("tags",))
    presence.beat("downgraded", "5:azure")

    # Workers of an earlier version record only their name. One of them removes a lost worker.
    valkey.zadd(keys.WORKERS, {"old": time.time(), "downgraded": time.time() + 1})
    valkey.zrem(keys.WORKERS, "b")

    assert presence.rulesets() == {"a": "5:azure", "old": None, "downgraded": None}
    assert presence.sinks() == {"a": {"redis", "tags"}, "old": None, "downgraded": None}
    assert presence.queues() == {"a": {EVENTS, JOBS}, "old": None, "downgraded": None}
    presence.beat("a", "5:default", ("redis",))
    assert (presence.rulesets()["a"], presence.sinks()["a"]) == ("5:default", {"redis"})
    presence.leave("old")
    presence.beat("a", "5:default")
    assert presence.sinks()["a"] is None
    for stated in (keys.WORKER_RULES, keys.WORKER_SINKS, keys.WORKER_QUEUES):
        assert set(valkey.hkeys(stated)) == {b"a", b"downgraded"}
    presence.leave("a")
    assert set(valkey.hkeys(keys.WORKER_SINKS)) == {b"downgraded"}
