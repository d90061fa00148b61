"""Searching verdicts: every filter, every page, and no verdict twice or hidden."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyhole.reasons import Status
from keyhole.results.drop import Drops
from keyhole.results.lookup import Name
from keyhole.results.redis_store import RedisStore
from keyhole.results.search import CursorError, Filter, Search
from keyhole.scan.report import Report
from keyhole.store import keys
from tests.counted import calls_for
from tests.results.filled import NOON, fill, nightly, report

HOSTILE = (
    "<script>alert(1)</script>",
    "a\0b",
    "new\nline",
    "\u202egpj.exe",
    "é" * 512,
    "100%|x,y",
    "ÀÉ.qcow2",
)
#: The most bytes that Redis may send for a row, for a record, and in addition to them.
ROW_BYTES, RECORD_BYTES, OTHER_BYTES = 80, 500, 20_000


def various(count: int) -> Iterator[Report]:
    """Reports with all statuses in several buckets, many of them at the same time."""
    chance = random.Random(7)  # noqa: S311 - test data
    statuses = list(Status)
    for number in range(count):
        image = chance.choice(["qcow2", "vmdk", None])
        key = f"{chance.choice(['Debian', 'fedora'])}/{number:04}{chance.choice(HOSTILE)}.{image}"
        yield report(
            key,
            seconds=chance.randrange(count // 4),
            status=chance.choice(statuses),
            bucket=chance.choice(["images", "uploads"]),
            format=image,
            reasons=tuple(chance.sample(["truncated", "backing_file", "backing"], chance.randrange(3))),
            version_id=chance.choice([None, None, "v1"]),
        )


def in_order(reports: list[Report]) -> list[Report]:
    """Sort reports as a search does: the latest scan first, then by object id."""
    return sorted(
        reports,
        key=lambda one: (one.scanned_at, keys.object_id(one.bucket or "", one.key or "", one.version_id)),
        reverse=True,
    )


def paged(search: Search, wanted: Filter, limit: int) -> list[Report]:
    """Read all pages."""
    found: list[Report] = []
    cursor = None
    while True:
        page = search.page(wanted, after=cursor, limit=limit)
        assert len(page.reports) == limit or page.cursor is None
        found += page.reports
        if (cursor := page.cursor) is None:
            return found


FILTERS = st.builds(
    Filter,
    statuses=st.lists(st.sampled_from(Status), max_size=3, unique=True).map(tuple),
    bucket=st.sampled_from(["", "images", "uploads", "image"]),
    prefix=st.sampled_from(["", "Debian/", "fedora/00", "debian"]),
    part=st.sampled_from(["", "DEBIAN", "7", ".vmdk", "<script>", "\0", "\n", "é", "à", "images"]),
    format=st.sampled_from(["", "qcow2", "vmdk", "qcow"]),
    reason=st.sampled_from(["", "backing", "truncated"]),
    since=st.none() | st.sampled_from([NOON + timedelta(seconds=50)]),
)


class TestEveryFilter:
    @pytest.fixture
    def filled(self, valkey: redis.Redis) -> tuple[redis.Redis, list[Report]]:
        return valkey, fill(valkey, various(400))

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(wanted=FILTERS, limit=st.sampled_from([20, 50, 1000]))
    def test_finds_exactly_what_matches_in_order_and_once(
        self, filled: tuple[redis.Redis, list[Report]], wanted: Filter, limit: int
    ) -> None:
        client, reports = filled
        expected = in_order([one for one in reports if wanted.accepts(one)])

        assert paged(Search(client), wanted, limit) == expected
        assert list(Search(client).all(wanted)) == expected

    def test_without_rows_the_records_decide(self, filled: tuple[redis.Redis, list[Report]]) -> None:
        """An older version wrote these verdicts."""
        client, reports = filled
        rows = keys.rows("00")
        kept = client.hgetall(rows)
        wanted = Filter(bucket="images")
        client.delete(rows)
        try:
            assert paged(Search(client), wanted, 7) == in_order(
                [one for one in reports if wanted.accepts(one)]
            )
        finally:
            client.hset(rows, mapping=kept)


class TestPages:
    @pytest.mark.parametrize("wanted", [Filter(), Filter(bucket="images")])
    def test_a_new_verdict_moves_nothing_to_another_page(self, valkey: redis.Redis, wanted: Filter) -> None:
        old = in_order(fill(valkey, (report(f"{n}", seconds=n) for n in range(10))))
        search = Search(valkey)
        first = search.page(wanted, limit=5)

        # When a newer verdict arrives, and the last object of the page is scanned again
        fill(valkey, iter([report("new", seconds=99), report(old[4].key or "", seconds=100)]))

        assert list(search.page(wanted, after=first.cursor, limit=5).reports) == old[5:]

    @pytest.mark.parametrize("wanted", [Filter(), Filter(bucket="images")])
    def test_verdicts_of_the_same_time_are_paged(self, valkey: redis.Redis, wanted: Filter) -> None:
        reports = in_order(fill(valkey, (report(f"{n}") for n in range(500))))

        assert paged(Search(valkey), wanted, 9) == reports

    @pytest.mark.parametrize("cursor", ["", "1", "x-" + "0" * 32, "1-" + "0" * 33, "٣-" + "0" * 32, "9" * 99])
    def test_a_text_that_is_no_cursor_is_refused(self, valkey: redis.Redis, cursor: str) -> None:
        with pytest.raises(CursorError, match="begin with the first page"):
            Search(valkey).page(Filter(), after=cursor)

    def test_a_long_list_reads_the_rows_only_a_few_times(self, valkey: redis.Redis) -> None:
        """If it read them for each page, the time would grow with the square of the length."""
        reports = in_order(fill(valkey, (report(f"{n}", seconds=n) for n in range(300))))
        valkey.config_resetstat()

        assert list(Search(valkey).all(Filter(bucket="images"), 10)) == reports
        assert valkey.info("commandstats")["cmdstat_hvals"]["calls"] == 256 * 4

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_page_has_at_least_one_verdict(self, valkey: redis.Redis, limit: int) -> None:
        reports = in_order(fill(valkey, (report(f"{n}", seconds=n) for n in range(2))))
        search = Search(valkey)

        page = search.page(Filter(), limit=limit)

        assert list(page.reports) == reports[:1]
        assert list(search.page(Filter(), after=page.cursor).reports) == reports[1:]

    def test_a_corrupt_row_hides_no_other_verdict(self, valkey: redis.Redis) -> None:
        reports = fill(valkey, (report(f"{n}", seconds=n) for n in range(3)))
        valkey.hset(
            keys.rows("00"), mapping={"x": b"", "y": b"1234567\xff\0\0\0images\0\xff", "z": b"\xff" * 99}
        )

        assert list(Search(valkey).all(Filter(bucket="images"))) == in_order(reports)


class TestWhatARowFollows:
    """A row is written, replaced and removed with its verdict."""

    @pytest.fixture
    def store(self, valkey: redis.Redis) -> RedisStore:
        return RedisStore(valkey, expiry_seconds=3600, stream_length=100)

    @staticmethod
    def rows(valkey: redis.Redis) -> int:
        return sum(valkey.hlen(name) for name in valkey.scan_iter(keys.rows("*")))

    def test_a_new_verdict_replaces_it(self, store: RedisStore, valkey: redis.Redis) -> None:
        store.write(report(), job_id="1", sequencer=None)
        later = report(seconds=1, status=Status.DAMAGED, reasons=("truncated",), format="vmdk")
        store.write(later, job_id="2", sequencer=None)
        search = Search(valkey)

        assert search.page(Filter(format="qcow2")).reports == ()
        assert search.page(Filter(format="vmdk", reason="truncated")).reports == (later,)
        assert self.rows(valkey) == 1

    def test_the_bare_key_has_none_when_versions_have(self, store: RedisStore, valkey: redis.Redis) -> None:
        """The bucket got versions after the first scan."""
        store.write(report(), job_id="1", sequencer=None)
        versions = [report(seconds=n, version_id=f"v{n}") for n in (1, 2)]
        for number, one in enumerate(versions):
            store.write(one, job_id=f"v{number}", sequencer=None)

        assert list(Search(valkey).all(Filter(bucket="images"))) == versions[::-1]
        assert self.rows(valkey) == 2

    def test_it_is_dropped_with_the_verdict(self, store: RedisStore, valkey: redis.Redis) -> None:
        store.write(report(), job_id="1", sequencer=None)
        drops = Drops(valkey)
        (standing,) = drops.look([Name("images", "a.qcow2")])
        assert standing is not None
        drops.drop(standing)

        assert self.rows(valkey) == 0

    def test_it_is_pruned_when_the_record_has_expired(self, store: RedisStore, valkey: redis.Redis) -> None:
        store.write(report(), job_id="1", sequencer=None)
        valkey.delete(keys.record(keys.object_id("images", "a.qcow2", None)))

        assert Search(valkey).page(Filter(bucket="images")).reports == ()
        assert list(store.find()) == []
        assert self.rows(valkey) == 0


class TestTheCost:
    """`python -m tests.bench.search` measures the time."""

    #: Filters, and how many bytes Redis may send for each verdict.
    RARE = Filter(bucket="images", part="-0009", reason="none")
    FILTERS = (
        (Filter(), 0),
        (RARE, ROW_BYTES),
        (replace(RARE, reason=""), ROW_BYTES),
        (Filter(prefix="nightly/003/"), ROW_BYTES),
    )

    @pytest.mark.slow
    def test_a_page_reads_a_short_row_of_each_verdict_and_only_its_own_records(
        self, valkey: redis.Redis
    ) -> None:
        """If it read all records, it would take seconds for 100,000 verdicts."""
        count, limit = 10_000, 50
        memory = valkey.info("memory")["used_memory"]
        fill(valkey, nightly(count))
        assert (valkey.info("memory")["used_memory"] - memory) / count < 700

        for wanted, row_bytes in self.FILTERS:
            valkey.config_resetstat()
            Search(valkey).page(wanted, limit=limit)

            calls = {name: found["calls"] for name, found in valkey.info("commandstats").items()}
            assert calls.get("cmdstat_hvals", 0) == (256 if row_bytes else 0)
            assert calls.get("cmdstat_mget", 0) <= 1
            sent = valkey.info("stats")["total_net_output_bytes"]
            assert sent < count * row_bytes + (limit + 1) * RECORD_BYTES + OTHER_BYTES

    def test_twice_as_many_verdicts_take_twice_the_work(self, valkey: redis.Redis) -> None:
        """Counted in calls of functions."""
        search, counted = Search(valkey), []
        verdicts = list(nightly(2000))
        for some in (verdicts[:1000], verdicts[1000:]):
            fill(valkey, some)
            counted.append([calls_for(partial(search.page, wanted)) for wanted, _ in self.FILTERS])

        assert [many <= 2.4 * few for few, many in zip(*counted, strict=True)] == [True] * len(self.FILTERS)
