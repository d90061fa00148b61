"""The store: which verdict is the current one, and how it is found."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.reasons import Status
from keyhole.results.lookup import Lookup, Name
from keyhole.results.packing import pack, unpack
from keyhole.results.record import CorruptRecordError
from keyhole.results.redis_store import STREAM_START, RedisStore
from keyhole.scan.report import LastAttempt, Report
from keyhole.store import keys

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
BARE_ID = keys.object_id("images", "a.qcow2", None)

#: Hypothesis runs many examples with one fixture, so each example empties Valkey itself.
against_valkey = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def at(seconds: float) -> datetime:
    """A time this many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def verdict(
    status: Status = Status.SAFE, *, scanned: float = 100, modified: float | None = 0, **more: Any
) -> Report:
    """A report on the object `a.qcow2`, with times in seconds after noon."""
    fields = {
        "target": "s3://images/a.qcow2",
        "bucket": "images",
        "key": "a.qcow2",
        "last_modified": None if modified is None else at(modified),
        "scanned_at": at(scanned),
        "scanner": "0.1.0",
        "ruleset": "1",
        **more,
    }
    return Report(status=status, **fields)


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    """A store that keeps records for an hour."""
    return RedisStore(valkey, expiry_seconds=3600, stream_length=1000)


class TestWhichVerdictStands:
    def test_a_later_modification_replaces_an_earlier_one(self, store: RedisStore) -> None:
        """The newer object was scanned earlier, because a slow scan of the older object ended last."""
        old = verdict(Status.SAFE, modified=1, scanned=200)
        new = verdict(Status.UNSAFE, modified=2, scanned=100)

        assert store.write(old, job_id="old", sequencer=None)
        assert store.write(new, job_id="new", sequencer=None)

        assert store.get("images", "a.qcow2") == new

    def test_an_older_verdict_is_refused(self, store: RedisStore) -> None:
        """The verdict on the earlier object must not hide the verdict on the current object."""
        old = verdict(Status.SAFE, modified=1, scanned=200)
        new = verdict(Status.UNSAFE, modified=2, scanned=100)

        assert store.write(new, job_id="new", sequencer=None)
        assert not store.write(old, job_id="old", sequencer=None)

        assert store.get("images", "a.qcow2") == new
        assert store.counts()[Status.SAFE] == 0

    @pytest.mark.parametrize(
        ("earlier", "later"), [("0A", "0B"), ("ff", "0100"), ("00FF", "100"), ("0aa0", "AA1"), ("0", "1")]
    )
    def test_within_one_second_the_sequencer_decides(
        self, store: RedisStore, earlier: str, later: str
    ) -> None:
        """S3 states modification times in seconds.

        Sequencers are compared as hexadecimal numbers of any length and case.
        """
        first, second = verdict(Status.SAFE, scanned=200), verdict(Status.UNSAFE, scanned=100)

        assert store.write(second, job_id="second", sequencer=later)
        assert not store.write(first, job_id="first", sequencer=earlier)
        assert store.get("images", "a.qcow2") == second

    @pytest.mark.parametrize("sequencer", [None, "", "not hexadecimal", "1|2\n3"])
    def test_without_a_sequencer_the_later_scan_decides(
        self, store: RedisStore, sequencer: str | None
    ) -> None:
        """A sequencer that is not hexadecimal is ignored."""
        earlier, later = verdict(Status.SAFE, scanned=100), verdict(Status.UNSAFE, scanned=200)

        assert store.write(later, job_id="later", sequencer=sequencer)
        assert not store.write(earlier, job_id="earlier", sequencer="ff")
        assert store.get("images", "a.qcow2") == later

    def test_an_unreadable_object_replaces_an_earlier_scan(self, store: RedisStore) -> None:
        """An object that was `safe` an hour ago and cannot be read now is no longer `safe`."""
        store.write(verdict(Status.SAFE, modified=1, scanned=100), job_id="read", sequencer=None)

        assert store.write(
            verdict(Status.UNREADABLE, modified=None, scanned=200), job_id="denied", sequencer=None
        )

    def test_an_unreadable_object_does_not_replace_a_later_scan(self, store: RedisStore) -> None:
        """The denial was temporary."""
        store.write(verdict(Status.SAFE, modified=1, scanned=200), job_id="read", sequencer=None)

        assert not store.write(
            verdict(Status.UNREADABLE, modified=None, scanned=100), job_id="x", sequencer=None
        )

    def test_a_later_scan_replaces_an_unreadable_object(self, store: RedisStore) -> None:
        """The object can have been last modified long before."""
        store.write(verdict(Status.UNREADABLE, modified=None, scanned=200), job_id="denied", sequencer=None)

        assert store.write(verdict(Status.SAFE, modified=-9999, scanned=300), job_id="read", sequencer=None)

    def test_the_same_job_twice_changes_nothing(self, store: RedisStore, valkey: redis.Redis) -> None:
        """A redelivered message is scanned again, later. The first verdict stays."""
        # Given a verdict of a job with the most unusual id that is allowed
        job_id = "batch|7/a b\nc"
        first = verdict(Status.SAFE, scanned=100)
        assert store.write(first, job_id=job_id, sequencer="1")
        before = {key: valkey.dump(key) for key in valkey.scan_iter()}

        # When the same job delivers a verdict again
        again = store.write(verdict(Status.UNSAFE, scanned=200), job_id=job_id, sequencer="1")

        # Then neither record, nor index, nor stream has changed
        assert not again
        assert {key: valkey.dump(key) for key in valkey.scan_iter()} == before

    @against_valkey
    @given(st.data())
    def test_every_order_of_arrival_ends_in_the_same_record(
        self, valkey: redis.Redis, data: st.DataObject
    ) -> None:
        """The verdicts are on readable objects, with any times, all from events or none."""
        sequenced = data.draw(st.booleans())
        few = st.integers(0, 3)
        facts = data.draw(st.lists(st.tuples(few, few, few), min_size=2, max_size=6))
        arrivals = [
            (
                verdict(modified=modified, scanned=100 + scanned, size=number),
                str(number),
                f"{order:x}" if sequenced else None,
            )
            for number, (modified, order, scanned) in enumerate(facts)
        ]
        permutation = data.draw(st.permutations(arrivals))

        assert self.after(valkey, permutation) == self.after(valkey, arrivals)

    @against_valkey
    @given(st.data())
    def test_every_order_of_arrival_of_what_happened_ends_in_the_same_record(
        self, valkey: redis.Redis, data: st.DataObject
    ) -> None:
        """One object over time: it changes, and each scan that can read it sees its state at that time."""
        modified, changes = 0, 1
        arrivals: list[tuple[Report, str, str | None]] = []
        happenings = st.sampled_from(
            ["changed", "changed in the same second", "scanned", "scanned for an event", "denied", "failed"]
        )
        for second, happening in enumerate(data.draw(st.lists(happenings, min_size=2, max_size=12))):
            seen: dict[str, Any] = {"scanned": second, "size": second}
            match happening:
                case "changed":
                    modified, changes = second, changes + 1
                case "changed in the same second":
                    changes += 1
                case "scanned":
                    arrivals.append((verdict(modified=modified, **seen), str(second), None))
                case "scanned for an event":
                    arrivals.append((verdict(modified=modified, **seen), str(second), f"{changes:x}"))
                case "failed":
                    arrivals.append((verdict(Status.FAILED, modified=None, **seen), str(second), None))
                case "denied":
                    arrivals.append((verdict(Status.UNREADABLE, modified=None, **seen), str(second), None))
        permutation = data.draw(st.permutations(arrivals))

        assert self.after(valkey, permutation) == self.after(valkey, arrivals)

    @staticmethod
    def after(valkey: redis.Redis, arrivals: list[tuple[Report, str, str | None]]) -> tuple[Any, ...]:
        """The content of a store after these verdicts arrived in this order."""
        valkey.flushall()
        store = RedisStore(valkey, expiry_seconds=None, stream_length=1000)
        for report, job_id, sequencer in arrivals:
            store.write(report, job_id=job_id, sequencer=sequencer)
        return valkey.get(keys.record(BARE_ID)), store.counts(), list(store.find())


class TestAFailureIsNoVerdict:
    """A failed scan states nothing about the object."""

    def failed(self, *, scanned: float, etag: str | None = None, modified: float | None = None) -> Report:
        return verdict(Status.FAILED, modified=modified, scanned=scanned).model_copy(
            update={"etag": etag, "reasons": ("network",), "details": {"error": "no route"}}
        )

    def unreadable(self, *, scanned: float, **known: object) -> Report:
        return verdict(Status.UNREADABLE, modified=None, scanned=scanned).model_copy(
            update={"reasons": ("access_denied",), **known}
        )

    def test_it_does_not_replace_a_verdict_and_is_kept_beside_it(self, store: RedisStore) -> None:
        store.write(verdict(Status.SAFE, scanned=100), job_id="1", sequencer=None)

        assert not store.write(self.failed(scanned=200), job_id="2", sequencer=None)

        kept = store.get("images", "a.qcow2")
        assert kept is not None
        assert (kept.status, kept.scanned_at) == (Status.SAFE, at(100))
        assert kept.last_attempt == LastAttempt(
            status=Status.FAILED, reasons=("network",), error="no route", scanned_at=at(200)
        )
        assert store.counts()[Status.SAFE] == 1
        assert store.counts()[Status.FAILED] == 0
        assert len(store.read_stream(STREAM_START).verdicts) == 1

    def test_any_verdict_replaces_it_even_of_the_same_job(self, store: RedisStore) -> None:
        """A worker that was considered lost still delivers its verdict."""
        store.write(self.failed(scanned=200), job_id="1", sequencer=None)

        assert store.write(verdict(Status.SAFE, scanned=100), job_id="1", sequencer=None)

        kept = store.get("images", "a.qcow2")
        assert kept is not None
        assert kept.status is Status.SAFE
        assert kept.last_attempt is not None

    def test_the_next_verdict_forgets_it(self, store: RedisStore) -> None:
        store.write(verdict(Status.SAFE, scanned=100), job_id="1", sequencer=None)
        store.write(self.failed(scanned=200), job_id="2", sequencer=None)

        store.write(verdict(Status.SAFE, scanned=300), job_id="3", sequencer=None)

        kept = store.get("images", "a.qcow2")
        assert kept is not None
        assert kept.last_attempt is None

    def test_on_another_object_it_replaces_the_verdict(self, store: RedisStore) -> None:
        """The verdict on the old object is not true for the new one."""
        old = verdict(Status.SAFE, modified=1, scanned=100).model_copy(update={"etag": '"a"'})
        store.write(old, job_id="1", sequencer=None)

        assert store.write(self.failed(scanned=200, etag='"b"', modified=2), job_id="2", sequencer=None)

    def test_unreadable_it_keeps_the_verdict_only_if_it_is_provably_the_same(self, store: RedisStore) -> None:
        safe = verdict(Status.SAFE, scanned=100).model_copy(update={"etag": '"a"'})
        store.write(safe, job_id="1", sequencer=None)

        same = self.unreadable(scanned=200, etag='"a"')
        assert not store.write(same, job_id="2", sequencer=None)
        assert store.write(self.unreadable(scanned=300), job_id="3", sequencer=None)

    def test_a_version_is_the_same_object_unless_it_is_gone(self, store: RedisStore) -> None:
        safe = verdict(Status.SAFE, scanned=100).model_copy(update={"version_id": "v1"})
        store.write(safe, job_id="1", sequencer=None)

        denied = self.unreadable(scanned=200, version_id="v1")
        assert not store.write(denied, job_id="2", sequencer=None)
        gone = self.unreadable(scanned=300, version_id="v1", reasons=("not_found",))
        assert store.write(gone, job_id="3", sequencer=None)

    def test_the_version_null_can_be_replaced(self, store: RedisStore) -> None:
        safe = verdict(Status.SAFE, scanned=100).model_copy(update={"version_id": "null"})
        store.write(safe, job_id="1", sequencer=None)

        assert store.write(self.unreadable(scanned=200, version_id="null"), job_id="2", sequencer=None)

    def test_it_expires_with_its_verdict(self, valkey: redis.Redis) -> None:
        store = RedisStore(valkey, expiry_seconds=100, stream_length=10)
        store.write(verdict(Status.SAFE, scanned=100), job_id="1", sequencer=None)
        store.write(self.failed(scanned=200), job_id="2", sequencer=None)

        assert 0 < valkey.ttl(keys.record(BARE_ID)) <= 100


class TestVersions:
    def test_each_version_keeps_its_verdict(self, store: RedisStore) -> None:
        """The key without version has the newest version's verdict, in whatever order the verdicts come."""
        first = verdict(Status.SAFE, version_id="v1", modified=1)
        second = verdict(Status.UNSAFE, version_id="v2", modified=2)

        assert store.write(second, job_id="2", sequencer=None)
        assert store.write(first, job_id="1", sequencer=None)

        assert store.get("images", "a.qcow2", "v1") == first
        assert store.get("images", "a.qcow2", "v2") == second
        assert store.get("images", "a.qcow2") == second

    def test_an_old_version_scanned_again_does_not_become_the_newest(self, store: RedisStore) -> None:
        """The old version's own record is still updated."""
        newest = verdict(version_id="v2", modified=2, scanned=100)
        store.write(newest, job_id="1", sequencer=None)
        again = verdict(Status.DAMAGED, version_id="v1", modified=1, scanned=200)

        assert store.write(again, job_id="2", sequencer=None)

        assert store.get("images", "a.qcow2", "v1") == again
        assert store.get("images", "a.qcow2") == newest

    def test_a_pointer_is_in_no_index(self, store: RedisStore) -> None:
        """Otherwise every version would be counted and found twice."""
        store.write(verdict(version_id="v1"), job_id="1", sequencer=None)

        assert sum(store.counts().values()) == 1
        assert len(list(store.find())) == 1

    def test_a_pointer_takes_the_place_of_a_record_without_version(self, store: RedisStore) -> None:
        """The bucket got versioning after the first scan."""
        store.write(verdict(Status.SAFE, modified=1), job_id="1", sequencer=None)
        versioned = verdict(Status.UNSAFE, version_id="v1", modified=2)

        store.write(versioned, job_id="2", sequencer=None)

        assert store.get("images", "a.qcow2") == versioned
        assert list(store.find()) == [versioned]
        assert sum(store.counts().values()) == 1

    def test_a_key_that_cannot_be_read_hides_its_versions(self, store: RedisStore) -> None:
        """The version of an object that cannot be read is unknown."""
        store.write(
            verdict(Status.SAFE, version_id="v1", modified=1, scanned=100), job_id="1", sequencer=None
        )
        denied = verdict(Status.UNREADABLE, modified=None, scanned=200)

        store.write(denied, job_id="2", sequencer=None)

        assert store.get("images", "a.qcow2") == denied

    def test_a_pointer_to_an_expired_record_finds_nothing(
        self, store: RedisStore, valkey: redis.Redis
    ) -> None:
        """An expired record is not an error."""
        store.write(verdict(version_id="v1"), job_id="1", sequencer=None)
        valkey.delete(keys.record(keys.object_id("images", "a.qcow2", "v1")))

        assert store.get("images", "a.qcow2") is None


class TestFinding:
    @staticmethod
    def fill(store: RedisStore, count: int, *, statuses: int = 3, step: float = 1) -> list[Report]:
        """Store this many verdicts with these statuses, some seconds apart. The latest scan comes first."""
        reports = [
            verdict(list(Status)[number % statuses], key=f"{number:03}", scanned=number * step)
            for number in range(count)
        ]
        for number, report in enumerate(reports):
            store.write(report, job_id=str(number), sequencer=None)
        return reports[::-1]

    def test_an_unknown_object_has_no_verdict(self, store: RedisStore) -> None:
        assert store.get("images", "a.qcow2") is None
        assert list(store.find()) == []

    def test_a_status_moves_between_indexes(self, store: RedisStore) -> None:
        """An object is found only under its latest status."""
        store.write(verdict(Status.SAFE, scanned=1), job_id="1", sequencer=None)
        now = verdict(Status.DAMAGED, scanned=2)
        store.write(now, job_id="2", sequencer=None)

        assert list(store.find(Status.SAFE)) == []
        assert list(store.find(Status.DAMAGED)) == [now]
        assert {status: count for status, count in store.counts().items() if count} == {Status.DAMAGED: 1}

    def test_the_latest_scan_is_found_first(self, store: RedisStore) -> None:
        """The test covers all statuses, and more than one page."""
        reports = self.fill(store, 350)

        assert list(store.find()) == reports
        assert list(store.find(Status.SAFE)) == [report for report in reports if report.status is Status.SAFE]

    def test_scans_of_the_same_moment_are_all_found(self, store: RedisStore) -> None:
        """Pages are divided by time, and one moment can fill a page."""
        reports = self.fill(store, 350, statuses=1, step=0)

        assert sorted(report.key or "" for report in store.find()) == sorted(
            report.key or "" for report in reports
        )

    def test_limit_and_offset_cut_the_list(self, store: RedisStore) -> None:
        reports = self.fill(store, 250)

        assert list(store.find(limit=7, offset=120)) == reports[120:127]

    def test_what_is_written_meanwhile_shifts_nothing(self, store: RedisStore) -> None:
        """A list that was started an hour ago can be read to its end."""
        reports = self.fill(store, 250)
        listing = store.find()
        head = [next(listing) for _ in range(10)]

        store.write(verdict(key="new", scanned=9999), job_id="new", sequencer=None)

        assert head + list(listing) == reports

    def test_a_verdict_that_changes_meanwhile_is_not_listed_as_what_it_was(
        self, store: RedisStore, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The verdict changes between reading the index and reading the records."""
        store.write(verdict(Status.SAFE, scanned=1), job_id="1", sequencer=None)
        read_records = valkey.mget

        def change_first(names: list[str]) -> Any:
            store.write(verdict(Status.UNSAFE, scanned=2), job_id="2", sequencer=None)
            return read_records(names)

        monkeypatch.setattr(valkey, "mget", change_first)

        assert list(store.find(Status.SAFE)) == []

    def test_an_expired_record_is_passed_over_and_pruned(
        self, store: RedisStore, valkey: redis.Redis
    ) -> None:
        """Index entries do not expire by themselves."""
        reports = self.fill(store, 150, step=0)
        for report in reports[:100]:
            valkey.delete(keys.record(keys.object_id("images", report.key or "", None)))

        assert len(list(store.find())) == 50

        assert sum(valkey.zcard(keys.status_index(status)) for status in Status) == 50

    def test_counts_leave_out_what_has_expired(self, store: RedisStore, valkey: redis.Redis) -> None:
        """An old record that still exists because it was written late is counted."""
        # Given old verdicts, more than a page, of which every second record has expired
        for report in self.fill(store, 350, statuses=1):
            object_id = keys.object_id("images", report.key or "", None)
            valkey.zadd(keys.status_index(Status.SAFE), {object_id: 0})
            if int(report.key or "") % 2:
                valkey.delete(keys.record(object_id))

        assert store.counts()[Status.SAFE] == 175

    def test_records_expire_by_setting(self, store: RedisStore, valkey: redis.Redis) -> None:
        store.write(verdict(version_id="v1"), job_id="1", sequencer=None)

        assert 3500 < valkey.ttl(keys.record(BARE_ID)) <= 3600
        assert 3500 < valkey.ttl(keys.record(keys.object_id("images", "a.qcow2", "v1"))) <= 3600

    def test_without_the_setting_records_stay(self, valkey: redis.Redis) -> None:
        RedisStore(valkey, expiry_seconds=None, stream_length=10).write(verdict(), job_id="1", sequencer=None)

        assert valkey.ttl(keys.record(BARE_ID)) == -1

    def test_a_file_has_no_record(self, store: RedisStore) -> None:
        """Storing such a report is the caller's mistake. Nothing is written."""
        with pytest.raises(ValueError, match="not an object in a bucket"):
            store.write(verdict(bucket=None), job_id="1", sequencer=None)


#: The commands that store the first verdict on a key.
FIRST = Counter(evalsha=1, get=1, set=1, zadd=2, hset=1, xadd=1)


class TestCommands:
    """Redis executes each command of a script, so their number decides how many verdicts it can store."""

    @staticmethod
    def used(valkey: redis.Redis, write: Callable[[], object]) -> Counter[str]:
        """Return how often Redis executed each command, also inside scripts, while `write` ran."""
        valkey.config_resetstat()
        write()
        # redis-py's type covers the answers of all protocols
        stats = cast("dict[str, dict[str, int]]", valkey.info("commandstats"))
        calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
        return Counter({name: count for name, count in calls.items() if not name.startswith("config")})

    @pytest.fixture
    def forever(self, valkey: redis.Redis) -> RedisStore:
        """A store whose records do not expire. Its script is loaded."""
        store = RedisStore(valkey, expiry_seconds=None, stream_length=1000)
        store.write(verdict(key="warm"), job_id="warm", sequencer=None)
        return store

    def test_a_first_verdict_takes_six(self, forever: RedisStore, valkey: redis.Redis) -> None:
        assert self.used(valkey, lambda: forever.write(verdict(), job_id="1", sequencer=None)) == FIRST

    def test_a_new_status_takes_four_more(self, forever: RedisStore, valkey: redis.Redis) -> None:
        """The old record names the only index that contains the object. The old verdict becomes history."""
        forever.write(verdict(Status.SAFE, scanned=1), job_id="1", sequencer=None)
        later = verdict(Status.DAMAGED, scanned=2)

        used = self.used(valkey, lambda: forever.write(later, job_id="2", sequencer=None))

        assert used == FIRST + Counter(zrem=1, hget=1, lpush=1, ltrim=1)

    def test_the_same_verdict_again_takes_one_more(self, forever: RedisStore, valkey: redis.Redis) -> None:
        """The old row shows that the reasons are the same."""
        forever.write(verdict(scanned=1), job_id="1", sequencer=None)
        later = verdict(scanned=2)

        used = self.used(valkey, lambda: forever.write(later, job_id="2", sequencer=None))

        assert used == FIRST + Counter(hget=1)

    def test_a_version_takes_two_more_for_its_pointer(self, forever: RedisStore, valkey: redis.Redis) -> None:
        version = verdict(version_id="v1")

        used = self.used(valkey, lambda: forever.write(version, job_id="1", sequencer=None))

        assert used == FIRST + Counter(get=1, set=1)


class TestRecordsOfEarlierVersions:
    """They contain JSON instead of packed reports. During an upgrade, both forms are in Redis."""

    @staticmethod
    def age(valkey: redis.Redis) -> None:
        """Rewrite the record as an earlier version wrote it."""
        record = valkey.get(keys.record(BARE_ID))
        assert isinstance(record, bytes)
        header, body, *attempts = record.split(b"\n")
        for attempt in attempts:
            time, _, failed = attempt.partition(b"|")
            attempts = [time + b"|" + unpack(failed)]
        valkey.set(keys.record(BARE_ID), b"\n".join([header, unpack(body), *attempts]))

    def test_the_packed_form_is_smaller(self, store: RedisStore, valkey: redis.Redis) -> None:
        store.write(verdict(), job_id="1", sequencer=None)
        packed = valkey.strlen(keys.record(BARE_ID))

        self.age(valkey)

        assert packed < valkey.strlen(keys.record(BARE_ID)) / 2

    def test_they_are_read(self, store: RedisStore, valkey: redis.Redis) -> None:
        store.write(verdict(), job_id="1", sequencer=None)
        self.age(valkey)

        assert store.get("images", "a.qcow2") == verdict()
        assert list(store.find()) == [verdict()]
        assert Lookup(valkey).reports([Name("images", "a.qcow2")]) == [verdict()]

    def test_they_keep_a_later_failed_attempt(self, store: RedisStore, valkey: redis.Redis) -> None:
        store.write(verdict(), job_id="1", sequencer=None)
        self.age(valkey)

        store.write(verdict(Status.FAILED, scanned=200), job_id="2", sequencer=None)

        kept = store.get("images", "a.qcow2")
        assert kept is not None
        assert kept.status is Status.SAFE
        assert kept.last_attempt is not None
        assert kept.last_attempt.scanned_at == at(200)

    def test_their_attempt_is_read_and_kept(self, store: RedisStore, valkey: redis.Redis) -> None:
        """The new verdict is older than the attempt."""
        store.write(verdict(scanned=100), job_id="1", sequencer=None)
        store.write(verdict(Status.FAILED, scanned=200), job_id="2", sequencer=None)
        self.age(valkey)
        before = store.get("images", "a.qcow2")

        store.write(verdict(scanned=150), job_id="3", sequencer=None)

        after = store.get("images", "a.qcow2")
        assert before is not None
        assert after is not None
        assert after.scanned_at == at(150)
        assert after.last_attempt == before.last_attempt is not None

    def test_a_verdict_replaces_them(self, store: RedisStore, valkey: redis.Redis) -> None:
        store.write(verdict(scanned=1), job_id="1", sequencer=None)
        self.age(valkey)

        assert not store.write(verdict(scanned=2), job_id="1", sequencer=None)
        assert not store.write(verdict(scanned=0), job_id="0", sequencer=None)
        assert store.write(verdict(Status.DAMAGED, scanned=2), job_id="2", sequencer=None)
        assert store.get("images", "a.qcow2") == verdict(Status.DAMAGED, scanned=2)
        assert sum(store.counts().values()) == 1


class TestLostRecords:
    """Without a readable record, the store does not know which index still contains the object."""

    @pytest.mark.parametrize("expiry_seconds", [None, 3600])
    @pytest.mark.parametrize("version_id", [None, "v1"])
    def test_an_expired_record_leaves_the_object_in_one_index(
        self, valkey: redis.Redis, expiry_seconds: int | None, version_id: str | None
    ) -> None:
        """The key has another record, or records expired before the setting was changed."""
        store = RedisStore(valkey, expiry_seconds=expiry_seconds, stream_length=10)
        store.write(verdict(Status.SAFE, scanned=1, version_id=version_id), job_id="1", sequencer=None)
        valkey.delete(keys.record(keys.object_id("images", "a.qcow2", version_id)))
        later = verdict(Status.DAMAGED, scanned=2, version_id=version_id)

        store.write(later, job_id="2", sequencer=None)

        assert list(store.find()) == [later]
        assert {status: count for status, count in store.counts().items() if count} == {Status.DAMAGED: 1}

    def test_an_expired_verdict_on_the_bare_key_leaves_no_trace_of_its_pointer(
        self, store: RedisStore, valkey: redis.Redis
    ) -> None:
        """The bucket got versioning after the first scan, whose record has expired."""
        store.write(verdict(Status.SAFE, scanned=1), job_id="1", sequencer=None)
        valkey.delete(keys.record(BARE_ID))
        versioned = verdict(Status.SAFE, scanned=2, version_id="v1")

        store.write(versioned, job_id="2", sequencer=None)

        assert list(store.find()) == [versioned]
        assert sum(store.counts().values()) == 1

    @pytest.mark.parametrize("value", ["hello", "|1|1|safe||1"])
    def test_a_corrupt_record_leaves_the_object_in_one_index(
        self, store: RedisStore, valkey: redis.Redis, value: str
    ) -> None:
        store.write(verdict(Status.SAFE, scanned=1), job_id="1", sequencer=None)
        valkey.set(keys.record(BARE_ID), value)
        later = verdict(Status.DAMAGED, scanned=2)

        store.write(later, job_id="2", sequencer=None)

        assert list(store.find()) == [later]
        assert sum(store.counts().values()) == 1


class TestCorruptRecords:
    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"hello",
            b"\xff\n{}",
            b"1||1|safe|job\n",
            b"1||1|safe|job\n{}",
            b'1||1|safe|job\n{"status": "\xff"}',
            b"1||1|safe||job\n~\xff",
        ],
    )
    def test_a_record_that_is_none_is_a_clear_error(
        self, store: RedisStore, valkey: redis.Redis, value: bytes
    ) -> None:
        """The error names the object and the key, and states what to do."""
        valkey.set(keys.record(BARE_ID), value)

        with pytest.raises(
            CorruptRecordError, match=rf"s3://images/a\.qcow2, {keys.record(BARE_ID)}, .*scan"
        ):
            store.get("images", "a.qcow2")

    def test_a_record_of_a_later_version_names_the_field(
        self, store: RedisStore, valkey: redis.Redis
    ) -> None:
        """A field that this version does not support is not dropped silently."""
        report = verdict().model_dump_json().encode().replace(b'"scanner"', b'"scanner2"')
        valkey.set(keys.record(BARE_ID), b"1||1|safe||job\n" + pack(report))

        with pytest.raises(CorruptRecordError, match="scanner"):
            store.get("images", "a.qcow2")

    def test_a_new_verdict_replaces_it(self, store: RedisStore, valkey: redis.Redis) -> None:
        """Scanning the object again is the remedy."""
        valkey.set(keys.record(BARE_ID), "hello")

        assert store.write(verdict(), job_id="1", sequencer=None)
        assert store.get("images", "a.qcow2") == verdict()

    def test_it_hides_no_other(
        self, store: RedisStore, valkey: redis.Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The record is logged, and the list continues."""
        store.write(verdict(scanned=2), job_id="1", sequencer=None)
        other = verdict(key="b", scanned=1)
        store.write(other, job_id="2", sequencer=None)
        valkey.set(keys.record(BARE_ID), "hello")

        assert list(store.find()) == [other]
        assert keys.record(BARE_ID) in caplog.text


class TestStream:
    def test_it_tells_every_verdict_that_was_written(self, store: RedisStore) -> None:
        """The stream contains each stored verdict with its job, but no refused verdict."""
        new, old = verdict(scanned=2), verdict(scanned=1)
        store.write(new, job_id="new", sequencer=None)
        store.write(old, job_id="old", sequencer=None)

        page = store.read_stream(STREAM_START)

        assert [(told.job_id, told.report) for told in page.verdicts] == [("new", new)]
        assert page.position == page.verdicts[-1].position == store.stream_position()

    def test_reading_goes_on_where_it_stopped(self, store: RedisStore) -> None:
        """Each page continues after the last one, and each verdict comes once."""
        for number in range(250):
            store.write(verdict(scanned=number), job_id=str(number), sequencer=None)

        position, jobs = STREAM_START, []
        while (page := store.read_stream(position)).verdicts:
            position = page.position
            jobs += [told.job_id for told in page.verdicts]

        assert jobs == [str(number) for number in range(250)]
        assert store.read_stream(position) == (position, ())

    def test_an_empty_stream_has_a_position(self, store: RedisStore) -> None:
        """Reading from that position misses nothing."""
        position = store.stream_position()

        assert position == STREAM_START
        assert store.read_stream(position, block_ms=1) == (STREAM_START, ())

    def test_foreign_entries_are_passed(
        self, store: RedisStore, valkey: redis.Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A page of such entries is empty, and reading continues after it."""
        valkey.xadd(keys.VERDICTS, {"job": "x", "report": "{}"})
        last = valkey.xadd(keys.VERDICTS, {b"\xff": b"\xff"})
        assert isinstance(last, bytes)

        page = store.read_stream(STREAM_START)

        assert page == (last.decode(), ())
        assert "is not a verdict" in caplog.text

    def test_it_is_trimmed(self, valkey: redis.Redis) -> None:
        """Redis deletes whole nodes of a hundred entries, so the length is approximate."""
        store = RedisStore(valkey, expiry_seconds=None, stream_length=100)
        for number in range(350):
            store.write(verdict(scanned=number), job_id=str(number), sequencer=None)

        positions = [told.position for told in store.read_stream(STREAM_START).verdicts]

        assert 100 <= valkey.xlen(keys.VERDICTS) < 250
        assert all(earlier < later for earlier, later in pairwise(positions))
