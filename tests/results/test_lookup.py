"""Many verdicts at once, and the keys of a bucket that have verdicts."""

from datetime import UTC, datetime

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.reasons import Status
from keyhole.results.lookup import Lookup, Name
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report
from keyhole.store import keys


def report(key: str, version_id: str | None = None, bucket: str = "images") -> Report:
    return Report(
        target=f"s3://{bucket}/{key}",
        bucket=bucket,
        key=key,
        version_id=version_id,
        status=Status.SAFE,
        scanned_at=datetime(2026, 5, 1, tzinfo=UTC),
        scanner="keyhole/test",
        ruleset="1",
    )


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    return RedisStore(valkey, expiry_seconds=None, stream_length=10)


@pytest.fixture
def lookup(valkey: redis.Redis) -> Lookup:
    return Lookup(valkey)


class TestReports:
    def test_each_name_has_its_verdict_in_their_order(self, store: RedisStore, lookup: Lookup) -> None:
        for number in range(5):
            store.write(report(str(number)), job_id=str(number), sequencer=None)

        found = lookup.reports([Name("images", key) for key in ("3", "nothing", "1")])

        assert [None if one is None else one.key for one in found] == ["3", None, "1"]
        assert lookup.reports([]) == []

    def test_without_a_version_it_is_that_on_the_newest(self, store: RedisStore, lookup: Lookup) -> None:
        store.write(report("a", "v1"), job_id="1", sequencer=None)

        assert lookup.reports([Name("images", "a"), Name("images", "a", "v1")]) == [report("a", "v1")] * 2
        assert lookup.reports([Name("images", "a", "v2")]) == [None]

    @pytest.mark.parametrize(
        "value", [b"hello", b"1||2|safe|j\n{}", b"1||2|safe|j\n@" + b"0" * 32, b"\xff\xff", b""]
    )
    def test_what_cannot_be_read_is_like_none(
        self, store: RedisStore, lookup: Lookup, valkey: redis.Redis, value: bytes
    ) -> None:
        store.write(report("good"), job_id="1", sequencer=None)
        valkey.set(keys.record(keys.object_id("images", "bad", None)), value)

        assert lookup.reports([Name("images", "bad"), Name("images", "good")]) == [None, report("good")]

    def test_a_pointer_to_a_pointer_is_not_followed(self, lookup: Lookup, valkey: redis.Redis) -> None:
        """Keyhole never writes such a pointer, and following a ring of pointers would never end."""
        own = keys.object_id("images", "ring", None)
        valkey.set(keys.record(own), f"1||2|safe|j\n@{own}")

        assert lookup.reports([Name("images", "ring")]) == [None]


class TestKeys:
    def test_they_come_in_a_stretch_of_the_bucket(self, store: RedisStore, lookup: Lookup) -> None:
        for key in ("a/1", "a/2", "a/3", "b/1"):
            store.write(report(key), job_id=key, sequencer=None)
        store.write(report("a/2", bucket="other"), job_id="x", sequencer=None)

        assert list(lookup.keys_between("images", "", None, None)) == ["a/1", "a/2", "a/3", "b/1"]
        assert list(lookup.keys_between("images", "a/", None, None)) == ["a/1", "a/2", "a/3"]
        assert list(lookup.keys_between("images", "a/", "a/1", "a/2")) == ["a/2"]
        assert list(lookup.keys_between("images", "", "a/3", None)) == ["b/1"]
        assert list(lookup.keys_between("nothing", "", None, None)) == []

    def test_they_are_counted(self, store: RedisStore, lookup: Lookup) -> None:
        for key in ("a/1", "a/2", "a/3", "a/\U0010ffff", "a0", "b/1"):
            store.write(report(key), job_id=key, sequencer=None)

        for bounds in (
            *(("", None, None), ("a/", None, None), ("a/", "a/1", "a/2"), ("a/", "a/1", None)),
            *(("", "a/3", None), ("c", None, None)),
        ):
            counted = lookup.count_keys("images", *bounds)
            assert counted == len(list(lookup.keys_between("images", *bounds)))

    def test_there_may_be_more_than_one_answer_holds(self, lookup: Lookup, valkey: redis.Redis) -> None:
        valkey.zadd(keys.key_index("images"), {f"{number:05}": 0 for number in range(2500)})

        assert len(list(lookup.keys_between("images", "", None, None))) == 2500
        assert len(list(lookup.keys_between("images", "", "00999", "01999"))) == 1000

    def test_a_key_can_be_forgotten(self, store: RedisStore, lookup: Lookup) -> None:
        store.write(report("a"), job_id="a", sequencer=None)

        lookup.forget_keys("images", ["a"])

        assert list(lookup.keys_between("images", "", None, None)) == []

    @given(names=st.sets(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), min_size=1))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_they_come_in_the_order_of_a_listing(
        self, lookup: Lookup, valkey: redis.Redis, names: set[str]
    ) -> None:
        """The order is that of the keys' UTF-8 bytes."""
        valkey.flushall()
        valkey.zadd(keys.key_index("images"), dict.fromkeys(names, 0))
        ordered = sorted(names, key=str.encode)

        assert list(lookup.keys_between("images", "", None, None)) == ordered
        middle = ordered[len(ordered) // 2]
        assert list(lookup.keys_between("images", "", middle, None)) == ordered[len(ordered) // 2 + 1 :]
