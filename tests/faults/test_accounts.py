"""The account finds jobs without an end or with two ends, wrong verdicts, and false tags."""

from datetime import UTC, datetime

import pytest
import redis

from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from keyhole.results.tags import own_tags
from keyhole.scan.report import Report
from tests.faults.accounts import Accounts, facts
from tests.faults.objects import BUCKET, key_of, stocks
from tests.faults.s3_answers import Stored

JOB = ScanJob(id="job", bucket=BUCKET, key=key_of(7))
SAFE, OTHER = (stocks()[index].etag for index in (0, 1))
STORED = {7: Stored(stock=0)}


def report(status: Status = Status.SAFE, *, etag: str | None = SAFE, number: int = 7, **more: str) -> Report:
    return Report.model_validate(
        {
            "target": "an object",
            "bucket": BUCKET,
            "key": key_of(number),
            "etag": etag,
            "status": status,
            "reasons": tuple(more.values()),
            "scanned_at": datetime.now(UTC),
            "scanner": "a test",
            "ruleset": "a test",
        }
    )


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    return RedisStore(valkey, expiry_seconds=None, stream_length=100)


@pytest.fixture
def letters(valkey: redis.Redis) -> DeadLetters:
    return DeadLetters(valkey)


@pytest.fixture
def accounts(store: RedisStore, letters: DeadLetters) -> Accounts:
    """Accounts that expect the first image to be safe and the second image to be unsafe."""
    accounts = Accounts(store, letters)
    accounts.expected = {SAFE: facts(report()), OTHER: facts(report(Status.UNSAFE, etag=OTHER))}
    return accounts


def test_a_job_with_one_right_verdict_is_no_trouble(accounts: Accounts, store: RedisStore) -> None:
    store.write(report(), job_id=JOB.id, sequencer=None)
    assert accounts.settle([JOB], [], STORED) == {"verdict": 1}
    assert accounts.trouble.count == {}


def test_an_accepted_job_without_an_end_is_lost(accounts: Accounts) -> None:
    accounts.settle([JOB], [], STORED)
    assert accounts.trouble.count == {"lost": 1}


def test_a_job_of_uncertain_acceptance_need_not_end(accounts: Accounts) -> None:
    accounts.settle([], [JOB], STORED)
    assert accounts.trouble.count == {}


def test_a_second_verdict_of_a_job_is_noticed_even_later(accounts: Accounts, store: RedisStore) -> None:
    store.write(report(), job_id=JOB.id, sequencer=None)
    accounts.settle([JOB], [], STORED)
    store.write(report(number=8), job_id=JOB.id, sequencer=None)
    accounts.settle([], [], STORED)
    assert accounts.trouble.count == {"doubled": 1}


def test_a_verdict_must_be_that_of_the_bytes_it_names(accounts: Accounts, store: RedisStore) -> None:
    store.write(report(Status.SAFE, etag=OTHER), job_id=JOB.id, sequencer=None)
    assert accounts.settle([JOB], [], STORED) == {"wrong": 1}
    assert "differs in ['status']" in accounts.trouble.examples["wrong verdict"][0]


def test_a_failure_is_trouble_unless_it_is_poison(
    accounts: Accounts, store: RedisStore, letters: DeadLetters
) -> None:
    store.write(report(Status.FAILED, etag=None, reason="network"), job_id="other", sequencer=None)
    letters.add(Dead.entry(Entry(JOB.id, (JOB,)), "poison: workers lost while they scanned it: 3"))
    assert accounts.settle([JOB], [], STORED) == {"failed": 1}
    assert accounts.trouble.count == {"failed": 1}


def test_denied_is_true_only_where_s3_denied_the_object(accounts: Accounts, store: RedisStore) -> None:
    denied = report(Status.UNREADABLE, etag=None, reason="access_denied")
    store.write(denied, job_id=JOB.id, sequencer=None)
    assert accounts.settle([JOB], [], STORED) == {"wrong": 1}
    store.write(denied, job_id="second", sequencer=None)
    assert accounts.settle([], [], {7: Stored(stock=0, denied=1)}) == {"denied": 1}


def test_a_tag_that_says_safe_of_other_bytes_is_false_unless_it_came_with_them(accounts: Accounts) -> None:
    tags = own_tags(report())
    accounts.tags_are_true({7: Stored(stock=0, tags=tags), 8: Stored(stock=1, tags=tags, forged=True)})
    assert accounts.trouble.count == {}
    accounts.tags_are_true({7: Stored(stock=1, tags=tags)})
    assert accounts.trouble.count == {"false safe": 1}


def test_object_record_and_tags_must_agree_at_rest(accounts: Accounts, store: RedisStore) -> None:
    store.write(report(), job_id=JOB.id, sequencer=None)
    accounts.agree({7: Stored(stock=0, tags=own_tags(report()))})
    assert accounts.trouble.count == {}
    accounts.agree({7: Stored(stock=1), 8: Stored(stock=0)})
    accounts.agree({7: Stored(stock=0)})
    assert accounts.trouble.count == {"record of other bytes": 1, "no record": 1, "wrong tags": 1}
