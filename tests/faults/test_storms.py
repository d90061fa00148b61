"""In two minutes of all faults, no job is lost or done twice, and every verdict is right."""

import pytest

from tests.faults.outcome import Plan
from tests.faults.run import run, schedule
from tests.faults.s3_faults import READS, Fault, Kind, Rule, drawn
from tests.faults.s3_server import Server
from tests.faults.storms import STORMS, Strike, squalls

JOBS = 1050
SQUALLS = 3


@pytest.mark.slow
def test_every_job_has_exactly_one_end_and_the_right_verdict() -> None:
    storms = squalls(SQUALLS, rate=0.3, every=12.0)
    plan = Plan(
        seed=10,
        storms=storms,
        jobs=JOBS // SQUALLS,
        drains=False,
        # Jobs that Valkey lost are sent again sooner than by default.
        settings={"resend_seconds": "30"},
    )

    outcome = run(plan)

    assert outcome.trouble.count == {}, outcome.trouble.examples
    assert sum(told.jobs for told in outcome.told) == JOBS
    assert set(outcome.total("faults")) == set(Fault)
    assert set(outcome.total("strikes")) == set(Strike)


def test_a_storm_without_a_time_has_all_its_jobs_at_any_rate() -> None:
    plan = Plan(seed=1, storms=squalls(1, rate=0.3, every=12.0), jobs=350)

    assert {schedule(plan, 10 + number / 7)[1] for number in range(2000)} == {350}


def test_the_same_seed_draws_the_same_faults() -> None:
    rules = (Rule(Fault.RESET, 0.3), Rule(Fault.STALL, 0.3))

    def faults(seed: str) -> list[Fault | None]:
        return [drawn(rules, seed, number, Kind.READ) for number in range(100)]

    assert faults("1/reset") == faults("1/reset") != faults("2/reset")
    assert set(faults("1/reset")) == {Fault.RESET, Fault.STALL, None}


def test_each_fault_strikes_once_at_least_however_few_requests_come() -> None:
    server = Server()
    server.storm("1", [{"fault": fault, "rate": 0.0, "kinds": READS} for fault in Fault])

    for _ in Fault:
        assert server.fault(Kind.LOOK) is None
        fault = server.fault(Kind.READ)
        assert fault is not None
        server.struck[fault] += 1

    assert server.missing() == []
    assert server.struck == dict.fromkeys(Fault, 1)
    assert server.fault(Kind.READ) is None


def test_the_short_version_has_every_fault_and_every_strike() -> None:
    short = squalls(SQUALLS, rate=0.3, every=12.0)

    assert {rule.fault for storm in short for rule in storm.rules} == set(Fault)
    assert {striking.strike for storm in short for striking in storm.strikes} == set(Strike)
    assert {rule.fault for storm in STORMS for rule in storm.rules} == set(Fault)
