"""Audits in Redis: every step happens once, even if it is repeated or a process dies between two steps."""

import random
from datetime import UTC, datetime, timedelta

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.intake.audits.audit import AuditSpec, AuditState, BucketFinding, How
from keyhole.intake.audits.records import NANO, Claim, PageResult, Result, Row, counted_status
from keyhole.intake.audits.store import AuditStore
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.queues import AUDITS
from keyhole.reasons import Status
from keyhole.results.owner import Owner
from keyhole.store import keys
from keyhole.store.connection import connect
from keyhole.store.durability import NotDurableError
from tests.jobs.clock import pass_seconds

SPEC = AuditSpec(bucket="images", outstanding=2)
GONE = BucketFinding(kind="gone", bucket="images", key="ü", message="gone")


def object_id(number: int) -> str:
    return keys.object_id("images", str(number), None)


def batch(page: int, number: int, jobs: int = 2) -> Entry:
    name = f"a-{page}-b{number}"
    return Entry(
        name,
        tuple(ScanJob(id=f"{name}-{job}", bucket="images", key=f"{name}-{job}") for job in range(jobs)),
        AUDITS,
        "a",
    )


@pytest.fixture
def store(valkey: redis.Redis) -> AuditStore:
    store = AuditStore(valkey, expiry_seconds=3600)
    assert store.create("a", SPEC, ruleset="3:default", scanner="keyhole/test")
    return store


def claimed(store: AuditStore, by: str = "me") -> Claim:
    claim = store.claim("a", by)
    assert claim is not None
    return claim


def scanned(store: AuditStore, entry: Entry, status: Status = Status.SAFE) -> bool:
    for job in entry.jobs:
        store.record_result("a", entry.id, job.id, Result(object_id(hash(job.id)), status, 2, 300, 800))
    return store.finish("a", entry.id)


class TestCreating:
    def test_an_audit_is_as_it_was_asked_for(self, store: AuditStore) -> None:
        audit = store.get("a")

        assert audit is not None
        assert (audit.spec, audit.state, audit.outstanding) == (SPEC, AuditState.RUNNING, 0)
        assert (audit.ruleset, audit.scanner) == ("3:default", "keyhole/test")
        assert abs(audit.started_at - datetime.now(UTC)) < timedelta(minutes=1)
        assert store.spec("a") == SPEC
        assert store.running() == ["a"]

    def test_an_id_names_one_audit(self, store: AuditStore) -> None:
        other = SPEC.model_copy(update={"bucket": "other"})

        assert not store.create("a", other, ruleset="4", scanner="x")

        assert store.spec("a") == SPEC

    def test_an_id_that_nobody_gave_names_none(self, store: AuditStore) -> None:
        assert (store.get("b"), store.state("b"), store.spec("b")) == (None, None, None)

    def test_it_is_not_begun_until_it_is_on_disk(self, unsynced: redis.Redis, unsynced_url: str) -> None:
        """A process that finds that another connection began the audit waits for the same confirmation."""
        with pytest.raises(NotDurableError):
            AuditStore(unsynced, expiry_seconds=3600).create("a", SPEC, ruleset="3:default", scanner="x")

        with connect(unsynced_url) as other, pytest.raises(NotDurableError):
            AuditStore(other, expiry_seconds=3600).create("a", SPEC, ruleset="3:default", scanner="x")

    def test_the_latest_come_first_and_what_has_expired_is_forgotten(
        self, store: AuditStore, valkey: redis.Redis
    ) -> None:
        for name in ("b", "c", "d"):
            store.create(name, SPEC, ruleset="3", scanner="x")
        valkey.delete(keys.audit("c"))

        assert [audit.id for audit in store.latest(10)] == ["d", "b", "a"]
        assert [audit.id for audit in store.latest(2)] == ["d", "b"]
        assert valkey.zcard(keys.AUDITS) == 3


class TestAPage:
    def test_one_lists_a_page_at_a_time(self, store: AuditStore) -> None:
        claim = claimed(store, "mine")

        assert store.claim("a", "yours") is None
        assert store.hold(claim)
        assert not store.hold(claim._replace(token="yours"))
        store.release(claim._replace(token="yours"))
        assert store.claim("a", "yours") is None

    def test_a_right_that_expired_goes_to_another_and_the_first_is_told(
        self, store: AuditStore, valkey: redis.Redis
    ) -> None:
        claim = claimed(store, "lost")
        valkey.delete(keys.audit("a", "page"))

        other = claimed(store, "other")

        assert other.page == claim.page
        assert not store.hold(claim)
        assert store.hold(other)

    def test_its_batches_are_on_disk_before_it_counts_as_committed(self, unsynced: redis.Redis) -> None:
        """A page without batches needs no wait: if it is lost, it is listed again."""
        store = AuditStore(unsynced, expiry_seconds=3600)
        with pytest.raises(NotDurableError):
            store.create("a", SPEC, ruleset="3:default", scanner="x")
        claim = claimed(store)

        assert store.commit(claim, PageResult({"listed": 1}, cursor="next"))
        with pytest.raises(NotDurableError):
            store.commit(claim._replace(page=1), PageResult({"listed": 2}, (batch(1, 0),)))

    def test_it_is_committed_once(self, store: AuditStore) -> None:
        claim = claimed(store)
        result = PageResult(
            {"listed": 3, "queued": 2, "unchanged": 1, "status:safe": 1},
            (batch(0, 0),),
            (Row(object_id(1), Status.SAFE, How.UNCHANGED),),
            (GONE,),
            cursor="next",
            after="z",
        )

        assert store.commit(claim, result)
        assert not store.commit(claim, result)
        assert store.hold(claim) == claim._replace(page=1)
        store.release(claim)
        assert not store.hold(claim)

        audit = store.get("a")
        assert audit is not None
        assert (audit.totals.pages, audit.totals.listed, audit.totals.queued) == (1, 3, 2)
        assert audit.totals.statuses == {Status.SAFE: 1}
        assert store.place("a") == (1, "next", "z")
        assert store.take("a") == store.outstanding("a") == [batch(0, 0)]
        assert list(store.rows("a")) == [Row(object_id(1), Status.SAFE, How.UNCHANGED)]
        assert list(store.findings("a")) == [GONE]

    def test_no_page_is_due_while_so_many_batches_are_outstanding(self, store: AuditStore) -> None:
        claim = claimed(store)
        store.commit(claim, PageResult({"queued": 4}, (batch(0, 0), batch(0, 1)), cursor="next"))
        store.release(claim)
        store.take("a")

        assert store.claim("a", "t") is None
        assert scanned(store, batch(0, 0))
        assert claimed(store).page == 1

    def test_no_more_batches_are_taken_than_may_be_outstanding(
        self, store: AuditStore, valkey: redis.Redis
    ) -> None:
        """From that moment they are in the ledger, so the process that took them can be lost."""
        ledger = Ledger(valkey, done_seconds=3600)
        batches = tuple(batch(0, number) for number in range(5))
        claim = claimed(store)
        store.commit(claim, PageResult({"queued": 10}, batches, cursor="next"))
        store.release(claim)

        assert (store.take("a"), store.take("a")) == ([*batches[:2]], [])
        assert [entry.entry for entry in ledger.idle(AUDITS, 9)] == store.outstanding("a") == [*batches[:2]]
        scanned(store, batches[0])
        assert store.claim("a", "t") is None
        assert store.take("a") == [batches[2]]
        audit = store.get("a")
        assert audit is not None
        assert audit.outstanding == 2

    def test_batches_are_recorded_by_the_ledger_s_clock(self, store: AuditStore, valkey: redis.Redis) -> None:
        """If a server's clock is set forward, it is ahead of the ledger's clock."""
        ledger = Ledger(valkey, done_seconds=3600)
        ledger.record(batch(9, 9))
        pass_seconds(valkey, -3600)
        claim = claimed(store)
        store.commit(claim, PageResult({"queued": 2}, (batch(0, 0),), cursor="next"))

        assert store.take("a") == [batch(0, 0)]

        assert [found.entry for found in ledger.idle(AUDITS, 9)] == [batch(0, 0)]

    def test_a_batch_that_begins_overtakes_none_that_was_recorded_with_it(
        self, store: AuditStore, valkey: redis.Redis
    ) -> None:
        """The ledger's clock can be behind the server's, after a time without workers.

        A batch that is overtaken five times while it waits would be given up.
        """
        ledger = Ledger(valkey, done_seconds=3600)
        ledger.record(batch(9, 9))
        pass_seconds(valkey, -3600)
        store.commit(claimed(store), PageResult({}, (batch(0, 0),)))
        (taken,) = store.take("a")
        ledger.leases.acquire(taken, "worker")
        ledger.record(batch(0, 1))

        pass_seconds(valkey, 90)

        assert ledger.overtaken(AUDITS, 9, seconds=60) == []
        assert batch(0, 1) in [found.entry for found in ledger.idle(AUDITS, 9, seconds=60)]

    def test_no_page_is_due_after_the_last(self, store: AuditStore) -> None:
        claim = claimed(store)
        store.commit(claim, PageResult({"queued": 2}, (batch(0, 0),)))
        store.release(claim)

        assert store.claim("a", "t") is None

    def test_a_cancelled_audit_takes_no_page(self, store: AuditStore) -> None:
        claim = claimed(store)
        store.set_state("a", AuditState.CANCELLED)

        assert not store.commit(claim, PageResult({"queued": 2}, (batch(0, 0),)))
        assert store.outstanding("a") == []


class TestABatch:
    def test_its_results_are_counted_once(self, store: AuditStore) -> None:
        entry = batch(0, 0, jobs=3)
        store.commit(claimed(store), PageResult({"queued": 3}, (entry,), cursor="next"))

        assert scanned(store, entry, Status.UNSAFE)
        assert not scanned(store, entry, Status.SAFE)

        audit = store.get("a")
        assert audit is not None
        totals = audit.totals
        assert (totals.scanned, totals.requests, totals.bytes_read) == (3, 6, 900)
        assert totals.dollars == 2400 / NANO
        assert totals.statuses == {Status.UNSAFE: 3}
        assert {row.how for row in store.rows("a")} == {How.SCANNED}
        assert len(list(store.rows("a"))) == 3

    def test_objects_that_are_not_images_are_counted_apart(self, store: AuditStore) -> None:
        """Here a PDF and an unknown format are scanned, and another PDF is unchanged."""
        entry = batch(0, 0, jobs=2)
        counts = {"queued": 2, f"status:{counted_status(Status.UNRECOGNIZED, not_an_image=True)}": 1}
        store.commit(claimed(store), PageResult(counts, (entry,), cursor="next"))
        for number, job in enumerate(entry.jobs):
            result = Result(object_id(number), Status.UNRECOGNIZED, 1, 1, 1, not_an_image=number == 0)
            store.record_result("a", entry.id, job.id, result)

        store.finish("a", entry.id)

        audit = store.get("a")
        assert audit is not None
        assert audit.totals.statuses == {Status.UNRECOGNIZED: 3}
        assert audit.totals.not_images == 2
        assert {row.status for row in store.rows("a")} == {Status.UNRECOGNIZED}

    def test_the_first_result_of_a_job_counts(self, store: AuditStore) -> None:
        """A worker was lost after it had recorded the result."""
        entry = batch(0, 0, jobs=1)
        store.commit(claimed(store), PageResult({"queued": 1}, (entry,), cursor="next"))
        job = entry.jobs[0].id
        store.record_result("a", entry.id, job, Result(object_id(1), Status.SAFE, 1, 1, 1))
        store.record_result("a", entry.id, job, Result(object_id(1), Status.DAMAGED, 9, 9, 9))

        store.finish("a", entry.id)

        audit = store.get("a")
        assert audit is not None
        assert audit.totals.statuses == {Status.SAFE: 1}
        assert audit.totals.requests == 1

    def test_the_audit_ends_with_its_last_batch(self, store: AuditStore, valkey: redis.Redis) -> None:
        entries = [batch(0, 0), batch(0, 1)]
        result = PageResult({"queued": 4}, tuple(entries), ends_as=AuditState.STOPPED, reason="enough")
        store.commit(claimed(store), result)
        store.take("a")
        scanned(store, entries[1])
        assert store.state("a") is AuditState.RUNNING

        scanned(store, entries[0])

        audit = store.get("a")
        assert audit is not None
        assert (audit.state, audit.reason) == (AuditState.STOPPED, "enough")
        assert audit.ended_at is not None
        assert audit.ended_at >= audit.started_at
        assert store.running() == []
        for key in valkey.scan_iter(match=keys.audit("a") + "*"):
            if key.decode() != keys.audit("a", "page"):
                assert 3500 < valkey.ttl(key) <= 3600, key

    def test_an_audit_without_a_batch_ends_with_its_last_page(self, store: AuditStore) -> None:
        store.commit(claimed(store), PageResult({"listed": 1, "left_out": 1}))

        assert store.state("a") is AuditState.DONE

    def test_what_it_leaves_is_what_is_kept_of_an_audit(self, store: AuditStore, valkey: redis.Redis) -> None:
        entry = batch(0, 0)
        claim = claimed(store)
        store.commit(claim, PageResult({"queued": 2}, (entry,)))
        store.release(claim)
        store.take("a")
        scanned(store, entry)

        left = {key.decode() for key in valkey.scan_iter(match=keys.audit("a") + "*")}
        assert left == {keys.audit("a"), keys.audit("a", "totals"), keys.audit("a", "objects")}


class TestOwners:
    """An audit with an owner tag stores an owner beside each row."""

    NAMES = (Owner("payments"), Owner(), Owner(unknown="denied"), Owner("payments"))

    @pytest.fixture
    def owned(self, valkey: redis.Redis) -> AuditStore:
        store = AuditStore(valkey, expiry_seconds=3600)
        spec = AuditSpec(bucket="images", outstanding=2, owner_tag="team")
        assert store.create("a", spec, ruleset="3:default", scanner="keyhole/test")
        return store

    def record(self, store: AuditStore, entry: Entry) -> None:
        for number, (job, owner) in enumerate(zip(entry.jobs, self.NAMES, strict=True)):
            result = Result(object_id(number), Status.SAFE, 2, 300, 800, owner=owner)
            store.record_result("a", entry.id, job.id, result)

    def test_each_row_has_its_owner_though_steps_are_repeated(
        self, owned: AuditStore, valkey: redis.Redis
    ) -> None:
        entry = batch(0, 0, 4)
        rows = tuple(Row(object_id(number), Status.SAFE, How.UNCHANGED) for number in (8, 9))
        owners = (Owner("\u202e<b>"), Owner(unknown="gone"))
        claim = claimed(owned)
        result = PageResult({"queued": 4, "owners_unknown": 1}, (entry,), rows, owners=owners)
        assert [owned.commit(claim, result) for _ in range(2)] == [True, False]
        owned.release(claim)
        owned.take("a")
        self.record(owned, entry)
        self.record(owned, entry)
        assert [owned.finish("a", entry.id) for _ in range(2)] == [True, False]

        found = {row.object_id: owner for row, owner in zip(owned.rows("a"), owned.owners("a"), strict=True)}
        assert found == dict(zip(map(object_id, (8, 9, 0, 1, 2, 3)), owners + self.NAMES, strict=True))
        audit = owned.get("a")
        assert audit is not None
        assert (audit.state, audit.totals.owners_unknown) == (AuditState.DONE, 2)
        assert valkey.ttl(keys.audit("a", "owners")) > 0

    def test_a_failed_audit_that_goes_on_keeps_them(self, owned: AuditStore, valkey: redis.Redis) -> None:
        rows = (Row(object_id(1), Status.SAFE, How.UNCHANGED),)
        owned.commit(claimed(owned), PageResult({}, (), rows, cursor="next", owners=(Owner("x"),)))
        owned.set_state("a", AuditState.FAILED)
        assert valkey.ttl(keys.audit("a", "owners")) > 0

        owned.set_state("a", AuditState.RUNNING)

        assert valkey.ttl(keys.audit("a", "owners")) == -1

    def test_a_thousand_objects_of_one_owner_take_two_bytes_each(
        self, owned: AuditStore, valkey: redis.Redis
    ) -> None:
        rows = tuple(Row(object_id(number), Status.SAFE, How.UNCHANGED) for number in range(1000))
        owned.commit(claimed(owned), PageResult({}, (), rows, owners=(Owner("payments"),) * 1000))

        taken = sum(valkey.memory_usage(keys.audit("a", part)) or 0 for part in ("objects", "owners"))
        assert 20_000 <= taken < 24_000

    def test_a_page_without_rows_adds_none(self, owned: AuditStore, valkey: redis.Redis) -> None:
        owned.commit(claimed(owned), PageResult({"listed": 1, "left_out": 1}, owners=()))

        assert not valkey.exists(keys.audit("a", "owners"))

    def test_results_of_a_worker_that_found_no_owners_keep_their_rows_in_step(
        self, owned: AuditStore
    ) -> None:
        entry = batch(0, 0)
        owned.commit(claimed(owned), PageResult({"queued": 2}, (entry,)))
        owned.take("a")
        scanned(owned, entry)

        assert list(owned.owners("a")) == [Owner(unknown=""), Owner(unknown="")]


class TestTurning:
    @pytest.mark.parametrize(
        ("before", "to", "may"),
        [
            ([], AuditState.PAUSED, True),
            ([], AuditState.RUNNING, False),
            ([], AuditState.CANCELLED, True),
            ([AuditState.PAUSED], AuditState.RUNNING, True),
            ([AuditState.PAUSED], AuditState.CANCELLED, True),
            ([AuditState.PAUSED], AuditState.FAILED, False),
            ([AuditState.FAILED], AuditState.RUNNING, True),
            ([AuditState.CANCELLED], AuditState.RUNNING, False),
            ([AuditState.CANCELLED], AuditState.PAUSED, False),
        ],
    )
    def test_it_goes_where_it_may(
        self, store: AuditStore, before: list[AuditState], to: AuditState, may: bool
    ) -> None:
        for state in before:
            assert store.set_state("a", state)

        assert store.set_state("a", to, "because") is may

        assert store.state("a") is (to if may else (before or [AuditState.RUNNING])[-1])

    def test_a_paused_audit_finishes_what_is_outstanding_and_lists_no_page(self, store: AuditStore) -> None:
        entries = (batch(0, 0), batch(0, 1), batch(0, 2))
        store.commit(claimed(store), PageResult({"queued": 6}, entries, cursor="next"))
        store.take("a")
        store.set_state("a", AuditState.PAUSED)

        assert store.claim("a", "other") is None
        assert scanned(store, batch(0, 0))
        assert store.take("a") == []
        assert store.state("a") is AuditState.PAUSED

    def test_a_failed_audit_that_goes_on_does_not_expire(
        self, store: AuditStore, valkey: redis.Redis
    ) -> None:
        store.set_state("a", AuditState.FAILED, "denied")
        assert valkey.ttl(keys.audit("a")) > 0

        store.set_state("a", AuditState.RUNNING)

        assert valkey.ttl(keys.audit("a")) == -1
        audit = store.get("a")
        assert audit is not None
        assert (audit.ended_at, audit.reason) == (None, None)
        assert claimed(store).page == 0


@given(seed=st.integers(0, 2**32), pages=st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_done_twice_in_whatever_order_the_totals_are_exact(
    valkey: redis.Redis, seed: int, pages: int
) -> None:
    """Pages are committed up to three times. Results are recorded and batches finished repeatedly."""
    valkey.flushall()
    chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
    store = AuditStore(valkey, expiry_seconds=None)
    store.create("a", SPEC.model_copy(update={"outstanding": 1000}), ruleset="3", scanner="x")
    expected: dict[Status, int] = {}
    open_batches: list[tuple[Entry, Status]] = []
    for page in range(pages):
        sizes = [chance.randint(1, 4) for _ in range(chance.randint(0, 3))]
        entries = tuple(batch(page, number, size) for number, size in enumerate(sizes))
        count = sum(len(entry.jobs) for entry in entries)
        result = PageResult(
            {"listed": count, "queued": count}, entries, cursor=str(page) if page < pages - 1 else None
        )
        claim = claimed(store, str(page))
        for _ in range(chance.randint(1, 3)):
            store.commit(claim, result)
        store.release(claim)
        store.take("a")
        open_batches += [(entry, chance.choice(list(Status))) for entry in entries]
        for _ in range(chance.randint(0, len(open_batches))):
            entry, status = chance.choice(open_batches)
            scanned(store, entry, status)
    for entry, status in open_batches:
        expected[status] = expected.get(status, 0) + len(entry.jobs)
        scanned(store, entry, status)

    audit = store.get("a")
    assert audit is not None
    assert audit.state is AuditState.DONE
    assert audit.totals.statuses == expected
    assert audit.totals.scanned == audit.totals.queued == sum(expected.values())
    assert len(list(store.rows("a"))) == audit.totals.scanned
