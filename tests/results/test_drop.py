"""Dropping verdicts: what is deleted with a verdict, and what stays because it was stored meanwhile."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from keyhole.reasons import Status
from keyhole.results.drop import Drops, Standing, order
from keyhole.results.lookup import Name
from keyhole.results.redis_store import RedisStore
from keyhole.scan.report import Report
from keyhole.store import keys

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
BARE = Name("images", "a.qcow2")


def verdict(status: Status = Status.SAFE, *, minutes: int = 0, **more: Any) -> Report:
    moment = NOON + timedelta(minutes=minutes)
    fields = {"target": "s3://images/a.qcow2", "bucket": "images", "key": "a.qcow2", "last_modified": moment}
    fields |= {"scanned_at": moment, "scanner": "keyhole/test", "ruleset": "1", **more}
    return Report(status=status, **fields)


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    return RedisStore(valkey, expiry_seconds=None, stream_length=100)


@pytest.fixture
def drops(valkey: redis.Redis) -> Drops:
    return Drops(valkey)


def standing(drops: Drops, name: Name) -> Standing:
    """The stored verdict's standing under a name."""
    (found,) = drops.look([name])
    assert found is not None
    return found


class TestTheBareKey:
    def test_its_verdict_goes_and_is_counted_no_longer(self, store: RedisStore, drops: Drops) -> None:
        store.write(verdict(Status.UNSAFE), job_id="1", sequencer="0A")

        assert drops.drop(standing(drops, BARE))

        assert store.get(*BARE) is None
        assert list(store.find()) == []
        assert sum(store.counts().values()) == 0

    def test_twice_is_once(self, store: RedisStore, drops: Drops) -> None:
        store.write(verdict(), job_id="1", sequencer=None)
        looked_at = standing(drops, BARE)

        assert drops.drop(looked_at)
        assert not drops.drop(looked_at)

    def test_a_verdict_that_came_in_between_stays(self, store: RedisStore, drops: Drops) -> None:
        store.write(verdict(), job_id="1", sequencer="1")
        looked_at = standing(drops, BARE)
        newer = verdict(Status.DAMAGED, minutes=1)
        store.write(newer, job_id="2", sequencer="2")

        assert not drops.drop(looked_at)

        assert store.get(*BARE) == newer
        assert store.counts()[Status.DAMAGED] == 1

    def test_a_pointer_goes_and_the_version_stays(self, store: RedisStore, drops: Drops) -> None:
        """A delete marker hides the object."""
        report = verdict(version_id="v1")
        store.write(report, job_id="1", sequencer=None)

        assert drops.drop(standing(drops, BARE))

        assert store.get(*BARE) is None
        assert store.get("images", "a.qcow2", "v1") == report
        assert store.counts()[Status.SAFE] == 1

    def test_a_record_that_cannot_be_read_goes_too(self, drops: Drops, valkey: redis.Redis) -> None:
        valkey.set(keys.record(keys.object_id(*BARE)), b"\xffsurprise")
        looked_at = standing(drops, BARE)

        assert looked_at.sequencer is None
        assert drops.drop(looked_at)
        assert drops.look([BARE]) == [None]


class TestAVersion:
    def test_it_goes_with_the_pointer_to_it(self, store: RedisStore, drops: Drops) -> None:
        store.write(verdict(version_id="v1"), job_id="1", sequencer=None)

        assert drops.drop(standing(drops, Name("images", "a.qcow2", "v1")))

        assert store.get(*BARE) is None
        assert store.get("images", "a.qcow2", "v1") is None
        assert sum(store.counts().values()) == 0

    def test_a_pointer_to_another_version_stays(self, store: RedisStore, drops: Drops) -> None:
        store.write(verdict(Status.UNSAFE, version_id="v1"), job_id="1", sequencer=None)
        newest = verdict(version_id="v2", minutes=1)
        store.write(newest, job_id="2", sequencer=None)

        assert drops.drop(standing(drops, Name("images", "a.qcow2", "v1")))

        assert store.get(*BARE) == newest
        assert list(store.find()) == [newest]

    def test_a_verdict_without_version_stays(self, store: RedisStore, drops: Drops) -> None:
        store.write(verdict(version_id="v1"), job_id="1", sequencer=None)
        denied = verdict(Status.UNREADABLE, last_modified=None, minutes=1)
        store.write(denied, job_id="2", sequencer=None)

        assert drops.drop(standing(drops, Name("images", "a.qcow2", "v1")))

        assert store.get(*BARE) == denied


class TestLooking:
    def test_many_are_looked_at_in_their_order(self, store: RedisStore, drops: Drops) -> None:
        """There are more than fit into one command."""
        for number in range(0, 250, 2):
            store.write(verdict(key=str(number)), job_id=str(number), sequencer=f"{number:x}")
        names = [Name("images", str(number)) for number in range(250)]

        found = drops.look(names)

        assert [each and each.name for each in found] == [
            name if int(name.key) % 2 == 0 else None for name in names
        ]
        assert [each.sequencer for each in found if each] == list(range(0, 250, 2))

    def test_a_verdict_that_no_event_led_to_has_no_sequencer(self, store: RedisStore, drops: Drops) -> None:
        store.write(verdict(), job_id="1", sequencer=None)

        assert standing(drops, BARE).sequencer is None

    @pytest.mark.parametrize(
        ("text", "number"),
        [("0A", 10), ("a", 10), ("0", 0), ("", None), (None, None), ("x", None), ("1_0", None)],
    )
    def test_a_sequencer_is_a_hexadecimal_number(self, text: str | None, number: int | None) -> None:
        assert order(text) == number
