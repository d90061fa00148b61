"""The model of `keyhole plan`: exact counts, its laws, its walls, and a simulation of a million objects."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyhole.intake.audits import plan as model
from keyhole.intake.audits import workload
from keyhole.intake.audits.estimate import Estimator
from keyhole.intake.audits.plan import Kept, Plan
from keyhole.intake.audits.prices import load_prices
from keyhole.intake.audits.speed import Resource, object_seconds
from keyhole.intake.audits.walls import MOST_OUTSTANDING, walls
from keyhole.intake.audits.workload import Fleet, Work
from keyhole.intake.listing import Listed
from keyhole.settings import Settings
from keyhole.sources.s3 import AT_ONCE
from tests.intake.audits.fleet_simulation import simulate
from tests.pages import REFERENCE, rows
from tests.slow import slow

PRICES = load_prices(None)
MILLION = 1_000_000
KEPT = Kept(records=True, record_seconds=0, stream_length=100_000, done_seconds=86_400)


def work(**values: object) -> Work:
    """A million objects. Their average scan does not change with the defaults of the model."""
    usual = {"objects": MILLION, "ttfb_seconds": 0.03, "gets": 2.5, "bytes": 824 * 1024, "cpu_seconds": 0.004}
    return Work.model_validate(usual | values)


def fleet(**values: object) -> Fleet:
    """Eight processes, and no limit that they reach."""
    usual = {"processes": 8, "threads": 16, "rate": 0, "outstanding": 100, "batch_size": 100}
    return Fleet.model_validate(usual | values)


def plan(of: Work | None = None, fleet_: Fleet | None = None, **kept: object) -> Plan:
    stored = KEPT.model_copy(update=kept)
    return model.plan(of or work(), fleet_ or fleet(), stored, PRICES)


def names(plan: Plan) -> list[str]:
    return [wall.name for wall in walls(plan)]


def advised_batches(work: Work, fleet: Fleet) -> int:
    """The value of KEYHOLE_AUDIT_OUTSTANDING that a plan advises."""
    (idle,) = [wall for wall in walls(plan(work, fleet)) if wall.name == "idle_processes"]
    return int(idle.advice.removeprefix("set KEYHOLE_AUDIT_OUTSTANDING to ").removesuffix(" or more"))


class TestAgainstASimulation:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("bound", "work", "fleet"),
        [
            (Resource.LATENCY, work(), fleet()),
            (Resource.RATE, work(), fleet(rate=500, outstanding=8, processes=50)),
            (Resource.S3_READS, work(), fleet(processes=50)),
            (Resource.REDIS, work(), fleet(processes=100, prefixes=4)),
        ],
    )
    def test_a_million_objects_take_the_time_of_the_plan(
        self, bound: Resource, work: Work, fleet: Fleet
    ) -> None:
        found = plan(work, fleet)

        assert found.bound is bound
        assert found.seconds == pytest.approx(simulate(work, fleet), rel=0.03)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("bound", "work", "fleet"),
        [
            (Resource.LATENCY, work(tags=True), fleet()),
            (Resource.LATENCY, work(cpu_seconds=0.0005), fleet(threads=64, processes=2, batch_size=1000)),
            (Resource.CPU, work(cpu_seconds=0.02), fleet()),
            (Resource.CPU, work(), fleet(threads=256, processes=2)),
            (Resource.LATENCY, work(), fleet(outstanding=4)),
            (Resource.LATENCY, work(), fleet(outstanding=8)),
            (Resource.LATENCY, work(), fleet(outstanding=9)),
            (Resource.LATENCY, work(), fleet(outstanding=10)),
            (Resource.LATENCY, work(ttfb_seconds=0.1), fleet(processes=20, outstanding=20)),
            (Resource.LATENCY, work(), fleet(outstanding=8, batch_size=50)),
            (Resource.LATENCY, work(cpu_seconds=object_seconds(work()) / 16), fleet()),
            (Resource.S3_READS, work(), fleet(processes=14)),
            (Resource.LATENCY, work(cpu_seconds=0.0005), fleet(threads=64, processes=2)),
            (Resource.LATENCY, work(ttfb_seconds=0.2), fleet(processes=20)),
            (Resource.S3_READS, work(tags=True), fleet(processes=50)),
            (Resource.LISTING, work(gets=1, bytes=4096, ttfb_seconds=0.1), fleet(processes=60)),
            (Resource.RATE, work(tags=True), fleet(rate=2500)),
        ],
    )
    def test_a_hundred_thousand_objects_do_with_other_bounds(
        self, bound: Resource, work: Work, fleet: Fleet
    ) -> None:
        work = work.model_copy(update={"objects": 100_000})
        found = plan(work, fleet)

        assert found.bound is bound
        assert found.seconds == pytest.approx(simulate(work, fleet), rel=0.05)

    @pytest.mark.slow
    @pytest.mark.parametrize("batch_size", [10, 20])
    def test_it_is_a_tenth_off_at_most_if_batches_are_small_for_the_threads(self, batch_size: int) -> None:
        small, batches = work(objects=100_000), fleet(batch_size=batch_size)
        assert plan(small, batches).seconds == pytest.approx(simulate(small, batches), rel=0.1)

    def test_a_small_audit_takes_the_time_of_the_plan(self) -> None:
        """This test is quick, so it also runs when the simulations above do not."""
        small = work(objects=10_000)
        assert plan(small).seconds == pytest.approx(simulate(small, fleet()), rel=0.1)


class TestCounts:
    def test_a_billion_objects(self) -> None:
        found = plan(work(objects=1000 * MILLION), fleet(rate=500))

        assert (found.spending.lists, found.spending.gets) == (MILLION, 2500 * MILLION)
        assert found.spending.dollars == pytest.approx(MILLION * 0.000005 + 2500 * MILLION * 0.0000004)
        assert found.seconds == pytest.approx(2501 * MILLION / 500)
        assert found.memory.audit_rows == 18_000 * MILLION

    @given(
        objects=st.integers(min_value=1, max_value=3000),
        gets=st.integers(min_value=1, max_value=5),
        storage_class=st.sampled_from(["STANDARD", "STANDARD_IA", "GLACIER_IR", "MYSTERY"]),
        tags=st.booleans(),
    )
    def test_requests_and_dollars_are_those_of_a_dry_run(
        self, objects: int, gets: int, storage_class: str, tags: bool
    ) -> None:
        size = 1_000_000
        estimator = Estimator(PRICES, tags, gets, size, most_gets=32, most_bytes=size)
        estimator.listing(-(-objects // 1000))
        for _ in range(objects):
            estimator.add(Listed("a", size, storage_class=storage_class))

        found = plan(work(objects=objects, gets=gets, bytes=size, storage_class=storage_class, tags=tags))

        expected = estimator.result().expected
        assert found.spending == expected.model_copy(update={"dollars": found.spending.dollars})
        assert found.spending.dollars == pytest.approx(expected.dollars)
        assert found.priced is (storage_class != "MYSTERY")

    def test_the_average_scan_is_that_of_the_reference(self) -> None:
        cells = rows(REFERENCE["cost"], "image")
        gets = [int(row[2]) for row in cells]
        rounds = [int(row[3]) for row in cells]
        kib = [int(row[4].replace("KiB", "").replace(",", "")) for row in cells]

        assert pytest.approx(sum(gets) / len(gets), abs=0.05) == workload.MEAN_GETS
        assert sum(rounds) / len(rounds) == workload.MEAN_ROUNDS
        assert pytest.approx(sum(kib) / len(kib) * 1024, rel=0.01) == workload.MEAN_BYTES

    def test_a_scan_sends_as_many_gets_at_once_as_in_the_model(self) -> None:
        assert workload.GETS_AT_ONCE == AT_ONCE
        assert work(gets=1).rounds == 1
        assert work(gets=3).rounds == workload.MEAN_ROUNDS
        assert work(gets=20).rounds == 20 / AT_ONCE


class TestReference:
    def test_its_walls_are_those_of_the_model(self) -> None:
        """Each wall is met after the advice on the walls before it was followed."""
        billion = Work(objects=1000 * MILLION, ttfb_seconds=0.03)
        limited = plan(billion, fleet(processes=50, outstanding=8, rate=500))
        unlimited = plan(billion, fleet(processes=50, outstanding=8))
        busy = plan(billion, fleet(processes=50, outstanding=54))
        speeds = [
            limited.objects_per_second,
            unlimited.objects_per_second,
            *(busy.ceiling(wall) for wall in (Resource.S3_READS, Resource.LISTING, Resource.REDIS)),
        ]

        told = rows(REFERENCE["cost"], "wall")

        assert [row[1] for row in told] == [f"{speed:,.0f}" for speed in speeds]
        assert [row[2] for row in told] == [f"{1e9 / speed / 3600:,.0f}" for speed in speeds]
        assert busy.bound is Resource.S3_READS

    def test_its_figures_for_a_billion_objects_are_those_of_the_model(self) -> None:
        billion = Work(objects=1000 * MILLION, ttfb_seconds=0.03)
        plain, tagged, cold = (
            plan(billion.model_copy(update=values))
            for values in ({}, {"tags": True}, {"storage_class": "GLACIER_IR"})
        )
        page = " ".join(REFERENCE["cost"].split())

        assert f"about ${plain.spending.dollars:,.0f} in requests" in page
        assert f"the wall of S3's reads is at {tagged.ceiling(Resource.S3_READS):,.0f} objects" in page
        assert f"The wall of Redis is then at {tagged.ceiling(Resource.REDIS):,.0f} objects" in page
        assert f"${tagged.spending.dollars:,.0f} with tags" in page
        assert f"cost ${round(cold.spending.dollars, -2):,.0f}" in page
        assert f"of {plain.spending.bytes_read / 2**40:.0f} TiB cost" in page
        assert f"assumes {workload.MEAN_GETS:g} GETs and {workload.MEAN_BYTES / 1024:.0f} KiB" in page
        assert f"take {plain.memory.total / 2**30:.0f} GiB" in page
        assert f"18 bytes for each object: {plain.memory.audit_rows / 2**30:.0f} GiB" in page
        assert f"{model.RECORD_BYTES + model.INDEX_BYTES} bytes with its indexes" in page
        assert f"its entries in the indexes remain; they take {model.INDEX_BYTES} bytes." in page


class TestMemory:
    def test_it_grows_with_the_objects_except_the_stream(self) -> None:
        small, large = plan(work(objects=MILLION)).memory, plan(work(objects=10 * MILLION)).memory

        assert large.records == 10 * small.records
        assert large.indexes == 10 * small.indexes
        assert large.stream == small.stream

    def test_verdicts_that_expire_take_as_much_as_the_audit_writes_in_that_time(self) -> None:
        found = plan(work(objects=1000 * MILLION), record_seconds=3600)

        alive = found.memory.records / model.RECORD_BYTES
        assert alive == pytest.approx(3600 * found.objects_per_second, rel=0.001)
        assert found.memory.indexes == 1000 * MILLION * model.INDEX_BYTES

    def test_without_records_there_is_only_the_audit(self) -> None:
        memory = plan(records=False).memory
        assert (memory.records, memory.indexes, memory.stream) == (0, 0, 0)
        assert memory.audit_rows == 18 * MILLION


WORKS = st.builds(
    work,
    objects=st.integers(min_value=1, max_value=10**12),
    gets=st.floats(min_value=1, max_value=30),
    cpu_seconds=st.floats(min_value=0, max_value=1),
    ttfb_seconds=st.floats(min_value=1e-4, max_value=10),
    tags=st.booleans(),
)
FLEETS = st.builds(
    fleet,
    processes=st.integers(min_value=1, max_value=1000),
    threads=st.integers(min_value=1, max_value=256),
    prefixes=st.integers(min_value=1, max_value=100),
    rate=st.sampled_from([0, 1, 50, 500, 100_000]),
    outstanding=st.integers(min_value=1, max_value=1000),
    batch_size=st.integers(min_value=1, max_value=1000),
)


class TestLaws:
    @given(WORKS, FLEETS)
    def test_no_plan_is_faster_than_its_lowest_ceiling(self, work: Work, fleet: Fleet) -> None:
        found = plan(work, fleet)
        speeds = [ceiling.objects_per_second for ceiling in found.ceilings]

        assert speeds == sorted(speeds)
        assert 0 < found.objects_per_second <= speeds[0]
        assert found.seconds == pytest.approx(work.objects / found.objects_per_second)

    @given(WORKS, FLEETS)
    def test_twice_the_latency_is_never_faster(self, work: Work, fleet: Fleet) -> None:
        slower = work.model_copy(update={"ttfb_seconds": 2 * work.ttfb_seconds})
        assert plan(slower, fleet).seconds >= plan(work, fleet).seconds * 0.999

    @given(WORKS, FLEETS)
    @example(
        work(gets=1, cpu_seconds=1, ttfb_seconds=7),
        fleet(processes=103, threads=8, outstanding=107, batch_size=9),
    )
    def test_more_processor_time_is_never_faster(self, work: Work, fleet: Fleet) -> None:
        slower = work.model_copy(update={"cpu_seconds": work.cpu_seconds + 0.01})
        assert plan(slower, fleet).seconds >= plan(work, fleet).seconds * 0.999

    @given(WORKS, FLEETS)
    def test_more_batches_or_processes_are_never_slower(self, work: Work, fleet: Fleet) -> None:
        fleet = fleet.model_copy(update={"rate": 0})  # because a rate limit makes batches smaller
        usual = plan(work, fleet).seconds
        for more in ({"outstanding": fleet.outstanding + 1}, {"processes": fleet.processes + fleet.prefixes}):
            assert plan(work, fleet.model_copy(update=more)).seconds <= usual * 1.001

    @given(WORKS, FLEETS)
    def test_every_plan_has_walls_of_different_names(self, work: Work, fleet: Fleet) -> None:
        found = names(plan(work, fleet))
        assert found[0] == plan(work, fleet).bound
        assert len(found) == len(set(found))


class TestWalls:
    def test_the_defaults_meet_the_rate_limit_and_leave_processes_idle(self) -> None:
        found = plan(fleet_=fleet(processes=50, rate=500, outstanding=8))
        assert names(found) == ["rate", "idle_processes"]

    @pytest.mark.parametrize("processes", [50, slow(5000)])
    def test_the_advised_number_of_batches_keeps_all_processes_busy(self, processes: int) -> None:
        advised = min(MOST_OUTSTANDING, processes + 4)
        (idle,) = [
            wall
            for wall in walls(plan(fleet_=fleet(processes=processes, outstanding=8)))
            if "idle" in wall.name
        ]

        assert f"to {advised} or more" in idle.advice

    @pytest.mark.parametrize(
        ("work", "fleet"),
        [
            (work(gets=1, bytes=4096), fleet(outstanding=4)),
            (work(), fleet(outstanding=4, batch_size=20)),
            (work(), fleet(outstanding=4, batch_size=10)),
            slow(work(ttfb_seconds=0.1), fleet(outstanding=4, threads=64)),
            slow(work(), fleet(outstanding=4, processes=14, prefixes=2, batch_size=10)),
            slow(work(ttfb_seconds=0.1), fleet(outstanding=8, processes=40, prefixes=4)),
        ],
    )
    def test_more_than_the_advised_number_of_batches_are_hardly_faster(
        self, work: Work, fleet: Fleet
    ) -> None:
        """If batches are short, this takes more than a few batches more than processes."""
        work = work.model_copy(update={"objects": 20_000})
        advised = advised_batches(work, fleet)

        took, best = (
            simulate(work, fleet.model_copy(update={"outstanding": number}))
            for number in (advised, MOST_OUTSTANDING)
        )

        assert took == pytest.approx(best, rel=0.05)

    def test_the_largest_number_of_batches_is_that_of_the_setting(self) -> None:
        (most,) = [
            bound.le for bound in Settings.model_fields["audit_outstanding"].metadata if hasattr(bound, "le")
        ]
        assert most == MOST_OUTSTANDING

    def test_the_advised_rate_is_below_the_limit_of_s3(self) -> None:
        small = work(bytes=65_536)
        found = plan(small, fleet(processes=50))
        assert names(found) == ["s3_reads", "refusals"]
        assert "to 4,950 or less" in walls(found)[1].advice

        assert names(plan(small, fleet(processes=50, rate=4950))) == ["rate"]

    @pytest.mark.parametrize(
        ("kept", "met"),
        [
            ({}, ["redis_memory"]),
            ({"record_seconds": 86_400}, ["redis_memory", "indexes", "expiry"]),
            ({"records": False}, ["no_records"]),
        ],
    )
    def test_a_billion_verdicts_do_not_fit_into_one_redis(
        self, kept: dict[str, object], met: list[str]
    ) -> None:
        found = plan(work(objects=1000 * MILLION), fleet(), **kept)
        assert names(found) == ["latency", *met]

    def test_tags_and_the_network_are_named(self) -> None:
        fast = plan(work(tags=True), fleet(processes=400, outstanding=400, prefixes=20))
        assert {"tags", "network"} <= set(names(fast))
