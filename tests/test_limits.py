"""The time limits of a message follow from the budgets, and contradictory limits are refused."""

import pytest
from pydantic import ValidationError

from keyhole.limits import LAST_SHUTDOWN, TAG_SECONDS
from keyhole.scan.settings import FULL_SECONDS
from keyhole.settings import Settings


@pytest.fixture(autouse=True)
def _nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"KEYHOLE_{name.upper()}", raising=False)


@pytest.mark.parametrize("policy", ["default", "gcp", "kubevirt", "azure"])
@pytest.mark.parametrize("budget_seconds", [1, 60, 300])
def test_those_that_nobody_set_hold_together(policy: str, budget_seconds: int) -> None:
    settings = Settings(policy=policy, budget_seconds=budget_seconds)
    limits = settings.limits

    assert limits.begin >= 90
    assert limits.begin + max(limits.scan, budget_seconds) + TAG_SECONDS < limits.soft < limits.hard
    assert limits.hard + LAST_SHUTDOWN < limits.visibility < settings.done_seconds


def test_they_follow_from_what_the_policy_allows() -> None:
    assert Settings(policy="gcp").limits.scan == FULL_SECONDS > Settings().limits.scan


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"soft_seconds": 100}, ["KEYHOLE_SOFT_SECONDS is 100", "KEYHOLE_BUDGET_SECONDS", "300 or more"]),
        (
            {"soft_seconds": 400, "policy": "gcp"},
            ["KEYHOLE_SOFT_SECONDS is 400", "KEYHOLE_POLICY", "460 or more"],
        ),
        (
            {"soft_seconds": 400, "hard_seconds": 400},
            ["KEYHOLE_HARD_SECONDS is 400", "KEYHOLE_SOFT_SECONDS (400)", "415 or more"],
        ),
        (
            {"hard_seconds": 1700, "visibility_seconds": 1700},
            ["KEYHOLE_VISIBILITY_SECONDS is 1700", "KEYHOLE_HARD_SECONDS (1700)", "1740 or more"],
        ),
        (
            {"done_seconds": 3600},
            [
                "KEYHOLE_DONE_SECONDS is 3600",
                "KEYHOLE_UNDECIDED_SECONDS (21600)",
                "KEYHOLE_VISIBILITY_SECONDS (1800)",
                "23401 or more",
            ],
        ),
        (
            {"undecided_seconds": 0, "done_seconds": 1800},
            ["KEYHOLE_DONE_SECONDS is 1800", "KEYHOLE_VISIBILITY_SECONDS (1800)", "1801 or more"],
        ),
        ({"resend_seconds": 10}, ["KEYHOLE_RESEND_SECONDS is 10", "KEYHOLE_BUDGET_SECONDS", "30 or more"]),
        (
            {"hard_seconds": 1800, "broker_url": "amqp://q"},
            ["KEYHOLE_HARD_SECONDS is 1800", "KEYHOLE_BROKER_URL"],
        ),
    ],
)
def test_a_contradiction_is_refused_in_one_line_that_names_both(
    settings: dict[str, object], named: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate(settings)

    (error,) = refused.value.errors()
    assert all(part in error["msg"] for part in named), error["msg"]
    assert "\n" not in error["msg"]


def test_a_limit_of_rabbitmqs_counts_for_rabbitmq_alone() -> None:
    assert Settings(hard_seconds=1800, broker_url="redis://q").limits.hard == 1800
