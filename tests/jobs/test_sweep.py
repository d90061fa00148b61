"""The sweep: it resends messages that the broker lost, not waiting ones, and gives up hopeless entries."""

from collections.abc import Sequence

import pytest
import redis

from keyhole.jobs import queues
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.lease_length import LEASE_SECONDS
from keyhole.jobs.leases import Holder
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.jobs.sweep import MAX_RESENDS, Sweeper
from keyhole.store import keys

JOBS = (ScanJob(id="job", bucket="images", key="a.qcow2"),)


class Site:
    """A ledger, queues of a given length, and a record of the entries that were sent or given up."""

    def __init__(self, valkey: redis.Redis) -> None:
        self._valkey = valkey
        self.ledger = Ledger(valkey, done_seconds=3600)
        self.waiting: dict[str, int] = {}
        self.sent: list[str] = []
        self.given_up: list[str] = []
        self.broker_is_away = self.cannot_give_up = False

    def publish(self, entries: Sequence[Entry]) -> None:
        if self.broker_is_away:
            raise DeliveryUncertainError("the broker is away")
        self.sent += [entry.id for entry in entries]

    def record(self, entry_id: str, queue: str = queues.JOBS, *, ago: float) -> Entry:
        """An entry that was recorded, and last active, this many seconds ago."""
        entry = Entry(entry_id, JOBS, queue)
        self.ledger.record(entry)
        recorded, _, text = (self._valkey.hget(keys.LEDGER_ENTRIES, entry_id) or b"").partition(b" ")
        self._valkey.hset(keys.LEDGER_ENTRIES, entry_id, b"%f %s" % (float(recorded) - ago, text))
        self.age(entry, ago)
        return entry

    def age(self, entry: Entry, seconds: float) -> None:
        self._valkey.zincrby(keys.ledger_open(entry.queue), -seconds, entry.id)

    def give_up(self, entry: Entry, _: str) -> None:
        if self.cannot_give_up:
            raise RuntimeError
        self.given_up.append(entry.id)

    def sweep(self) -> int:
        return Sweeper(
            self.ledger,
            self,
            lambda queue: self.waiting.get(queue, 0),
            self.give_up,
            idle_seconds=60,
        ).sweep()


@pytest.fixture
def site(valkey: redis.Redis) -> Site:
    return Site(valkey)


def test_an_idle_entry_of_an_empty_queue_is_sent_again(site: Site) -> None:
    site.record("lost", ago=100)
    site.record("young", ago=10)
    site.record("audits", queues.AUDITS, ago=100)

    assert site.sweep() == 2

    assert site.sent == ["lost", "audits"]


def test_it_is_sent_once_until_it_is_idle_again(site: Site) -> None:
    entry = site.record("lost", ago=100)

    site.sweep()
    site.sweep()
    site.age(entry, 100)
    site.sweep()

    assert site.sent == ["lost", "lost"]
    assert site.ledger.resend_count(entry) == 2


def test_what_waits_in_a_busy_queue_is_not_sent_again(site: Site) -> None:
    """Messages that wait for hours are not treated as lost."""
    site.record("waiting", ago=10_000)
    site.waiting[queues.JOBS] = 1

    assert site.sweep() == 0


def test_an_overtaken_entry_of_a_busy_queue_is_sent_again(site: Site) -> None:
    site.record("lost", ago=200)
    site.ledger.leases.acquire(site.record("later", ago=100), "w1")
    site.record("waiting", ago=90)
    site.waiting[queues.JOBS] = 1

    site.sweep()

    assert site.sent == ["lost"]


def test_a_busy_queue_says_nothing_of_another(site: Site) -> None:
    site.record("lost", queues.EVENTS, ago=200)
    site.waiting[queues.JOBS] = 1000

    site.sweep()

    assert site.sent == ["lost"]


def test_an_entry_without_progress_is_given_up_and_discarded(site: Site) -> None:
    entry = site.record("poison", ago=100)

    for _ in range(MAX_RESENDS + 2):
        site.sweep()
        site.age(entry, 100)

    assert site.sent == ["poison"] * MAX_RESENDS
    assert site.given_up == ["poison"]
    assert site.ledger.count() == 0
    assert not site.ledger.is_done("poison")


def test_one_that_cannot_be_given_up_holds_up_no_other(site: Site) -> None:
    """The next sweep tries again. Until then the entry stays in the ledger."""
    entry = site.record("poison", ago=100)
    for _ in range(MAX_RESENDS):
        site.sweep()
        site.age(entry, 100)
    site.record("lost", queues.AUDITS, ago=100)
    site.cannot_give_up = True

    site.sweep()

    assert site.sent[MAX_RESENDS:] == ["lost"]
    assert site.ledger.is_open("poison")
    site.cannot_give_up = False
    site.sweep()
    assert site.given_up == ["poison"]


def test_what_the_broker_did_not_take_is_tried_by_a_later_sweep(site: Site) -> None:
    entry = site.record("lost", ago=100)
    site.broker_is_away = True
    for _ in range(MAX_RESENDS + 2):
        with pytest.raises(DeliveryUncertainError):
            site.sweep()

    site.broker_is_away = False
    site.age(entry, 100)
    site.sweep()

    assert site.sent == ["lost"]


class TestHolders:
    def test_the_entry_of_an_expired_lease_is_sent_again_from_a_busy_queue(
        self, site: Site, valkey: redis.Redis
    ) -> None:
        entry = site.record("held", ago=0)
        site.waiting[queues.JOBS] = 1000
        site.ledger.leases.acquire(entry, "w1")
        assert site.sweep() == 0

        valkey.zincrby(keys.ledger_held(queues.JOBS), -2 * LEASE_SECONDS, "held")

        assert site.sweep() == 1
        assert site.sent == ["held"]
        assert site.sweep() == 0
        assert site.ledger.leases.acquire(entry, "w2") == Holder("w1", beats=False)

    def test_one_that_loses_worker_after_worker_is_not_discarded_while_its_message_can_wait(
        self, site: Site, valkey: redis.Redis
    ) -> None:
        """The broker delivers the last worker's message again.

        An entry is given up only if its message is lost.
        """
        entry = site.record("held", ago=0)
        site.waiting[queues.JOBS] = 1000
        for number in range(MAX_RESENDS + 2):
            site.ledger.leases.acquire(entry, f"w{number}", force=True)
            valkey.zincrby(keys.ledger_held(queues.JOBS), -2 * LEASE_SECONDS, "held")
            site.sweep()

        assert site.sent == ["held"] * MAX_RESENDS
        assert site.given_up == []
        assert site.ledger.is_open("held")

        # Later entries have begun, so this message is lost.
        site.age(entry, 200)
        site.ledger.leases.acquire(site.record("later", ago=100), "w")
        site.sweep()

        assert site.given_up == ["held"]


class TestPostponed:
    def test_what_is_due_is_sent_and_it_does_not_count_as_lost(self, site: Site) -> None:
        entry = site.record("undecided", ago=0)
        site.ledger.leases.acquire(entry, "w1")
        site.ledger.leases.release(entry, "w1", postponed=0)

        assert site.sweep() == 1

        assert site.sent == ["undecided"]
        assert site.ledger.resend_count(entry) == 0
        assert site.sweep() == 0

    def test_a_broker_that_is_away_loses_nothing(self, site: Site) -> None:
        entry = site.record("undecided", ago=0)
        site.ledger.leases.acquire(entry, "w1")
        site.ledger.leases.release(entry, "w1", postponed=0)
        site.broker_is_away = True
        with pytest.raises(DeliveryUncertainError):
            site.sweep()
        site.broker_is_away = False

        site.age(entry, 200)

        assert site.sweep() == 1
