"""A worker leaves messages of a later version to newer workers, and never loses or misreads them."""

import json
from typing import Any

import pytest
import redis

from keyhole import versions
from keyhole.fleet.services import Services, services
from keyhole.intake.dead_letters import DeadLetters, LetterKind
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.newer import LATER_SECONDS, NewerWork
from keyhole.jobs.queues import JOBS
from keyhole.jobs.sweep import Sweeper
from keyhole.store import keys
from keyhole.tasks import audit_due, scan
from tests.jobs.clock import pass_seconds

pytestmark = pytest.mark.usefixtures("works_here")

ENTRY_ID = "newer"
#: A version that neither entries nor specifications of audits have yet.
LATER = max(versions.ENTRY, versions.AUDIT) + 1
KNOWN = Entry(ENTRY_ID, (ScanJob(id="newer", bucket="images", key="a"),))
#: An entry of a later version, with a field and a structure that this version does not have.
NEWER = ENTRY.dump_python(KNOWN, mode="json", exclude_none=True) | {
    "version": LATER,
    "deadline": 5,
    "jobs": {"all": "different"},
}


@pytest.fixture
def recorded(works_here: Services, valkey: redis.Redis) -> None:
    """A newer publisher has recorded the entry in the ledger."""
    works_here.ledger.record(KNOWN)
    valkey.hset(keys.LEDGER_ENTRIES, ENTRY_ID, b"1764340000.0 " + json.dumps(NEWER).encode())


def deliver(message: dict[str, Any]) -> Any:
    return scan.apply(args=[message], task_id=ENTRY_ID, routing_key=JOBS)


def sweep(sent: list[Entry]) -> None:
    class Publisher:
        def publish(self, entries: Any) -> None:
            sent.extend(entries)

    Sweeper(services().ledger, Publisher(), lambda _: 0, pytest.fail, 5).sweep()


@pytest.mark.usefixtures("recorded")
class TestRecordedWork:
    def test_its_message_is_dropped_and_the_entry_is_postponed(
        self, valkey: redis.Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert deliver(NEWER).successful()

        assert DeadLetters(valkey).count() == 0
        assert services().ledger.count() == 1
        assert services().ledger.count_postponed() == 1
        assert f"entry {ENTRY_ID} is left to newer workers" in caplog.text
        assert (
            f"in format {LATER}; this version of Keyhole reads formats up to {versions.ENTRY}" in caplog.text
        )

    def test_the_sweep_of_an_old_worker_neither_sends_it_nor_gives_it_up(self, valkey: redis.Redis) -> None:
        deliver(NEWER)
        sent: list[Entry] = []
        for _ in range(10):
            pass_seconds(valkey, LATER_SECONDS + 1)
            sweep(sent)

        assert sent == []
        assert services().ledger.count_postponed() == 1
        assert DeadLetters(valkey).count() == 0

    def test_the_sweep_of_a_new_worker_sends_it(self, valkey: redis.Redis) -> None:
        deliver(NEWER)
        # The new worker can read the entry.
        text = json.dumps(ENTRY.dump_python(KNOWN, mode="json", exclude_none=True) | {"version": 1})
        valkey.hset(keys.LEDGER_ENTRIES, ENTRY_ID, "1764340000.0 " + text)
        sent: list[Entry] = []
        pass_seconds(valkey, LATER_SECONDS + 1)
        sweep(sent)

        assert sent == [KNOWN]
        assert services().ledger.count_postponed() == 0

    def test_a_newer_worker_that_works_on_it_keeps_its_lease(self) -> None:
        """The broker delivered the message a second time, to an old worker."""
        services().ledger.leases.acquire(KNOWN, "new worker")

        assert deliver(NEWER).successful()

        assert services().ledger.count_postponed() == 0
        assert services().ledger.leases.holder(ENTRY_ID) == "new worker"

    def test_an_entry_that_was_split_is_not_sent_whole(self, valkey: redis.Redis) -> None:
        services().ledger.split(KNOWN, [])

        assert NewerWork(valkey).leave(ENTRY_ID, JOBS)

        assert services().ledger.count_postponed() == 0


def test_the_message_of_complete_work_is_dropped(valkey: redis.Redis) -> None:
    services().ledger.record(KNOWN)
    services().ledger.complete(KNOWN)

    assert deliver(NEWER).successful()

    assert services().ledger.count() == services().ledger.count_postponed() == 0
    assert DeadLetters(valkey).count() == 0


def test_a_message_that_the_ledger_does_not_know_becomes_a_dead_letter(valkey: redis.Redis) -> None:
    """After the upgrade, `keyhole dead retry` puts it back."""
    assert deliver(NEWER).failed()

    (letter,) = DeadLetters(valkey).letters()
    assert letter.kind is LetterKind.REFUSED
    assert f"a later version of Keyhole wrote it, in format {LATER}" in letter.reason


def test_the_audit_of_a_later_version_becomes_a_dead_letter(valkey: redis.Redis) -> None:
    spec = {"bucket": "images", "version": LATER, "deep": True}

    assert audit_due.apply(args=["nightly", spec], task_id="0" * 32).failed()

    (letter,) = DeadLetters(valkey).letters()
    assert f"a later version of Keyhole wrote it, in format {LATER}" in letter.reason


@pytest.mark.parametrize("message", [{"id": "x"}, {"version": True}, {"version": "2"}, ["no entry"]])
def test_a_message_without_a_usable_version_is_refused_as_before(valkey: redis.Redis, message: Any) -> None:
    assert deliver(message).failed()
    assert DeadLetters(valkey).count() == 1
