"""`keyhole doctor`: its findings about the sinks that receive events. It sends none."""

import json
from collections.abc import Iterator

import pytest
import redis

from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.jobs.deliveries import Deliveries
from tests.cli.conftest import Keyhole
from tests.ports import free_port
from tests.results.sinks.reports import EVENT
from tests.servers.webhook_server import WebhookServer, webhook_server

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture(scope="module")
def server() -> Iterator[WebhookServer]:
    with webhook_server() as server:
        yield server


@pytest.fixture
def env(env: dict[str, str], valkey_url: str, valkey: redis.Redis, server: WebhookServer) -> dict[str, str]:
    assert valkey.ping()
    return env | {
        "KEYHOLE_REDIS_URL": valkey_url,
        "KEYHOLE_SINKS": "redis,webhook",
        "KEYHOLE_WEBHOOK_URL": server.url,
        "KEYHOLE_WEBHOOK_SECRET": SECRET,
        "KEYHOLE_WEBHOOK_PRIVATE": "true",
    }


@pytest.fixture(autouse=True)
def _no_worker_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyhole.cli.doctor_broker.PING_SECONDS", 0.05)


def told(keyhole: Keyhole, what: str, **settings: object) -> tuple[str, str]:
    """The doctor's line about a subject: the state and the text."""
    printed = keyhole("doctor", "--json", **settings)
    assert SECRET not in printed.out + printed.err
    (found,) = [one for one in map(json.loads, printed.lines) if one["what"] == what]
    return found["state"], found["message"]


def test_a_webhook_that_can_be_reached_is_well(keyhole: Keyhole, server: WebhookServer) -> None:
    state, message = told(keyhole, "sink webhook")

    assert state == "ok"
    assert "can be reached" in message
    assert "unsafe, damaged" in message
    assert server.received == []


def test_where_verdicts_go_is_told(keyhole: Keyhole) -> None:
    assert told(keyhole, "sinks") == ("ok", "verdicts go to redis, webhook")


def test_one_that_cannot_be_reached_is_not(keyhole: Keyhole) -> None:
    url = f"http://127.0.0.1:{free_port()}/"

    state, message = told(keyhole, "sink webhook", KEYHOLE_WEBHOOK_URL=url)

    assert state == "bad"
    assert "refused" in message


def test_one_with_a_private_address_is_refused(keyhole: Keyhole) -> None:
    state, message = told(
        keyhole, "sink webhook", KEYHOLE_WEBHOOK_URL="https://localhost/", KEYHOLE_WEBHOOK_PRIVATE="false"
    )

    assert state == "bad"
    assert "KEYHOLE_WEBHOOK_PRIVATE=true" in message


@pytest.mark.parametrize(
    ("sink", "setting", "place"),
    [
        ("sns", "KEYHOLE_SNS_TOPIC", "arn:aws:sns:us-east-1:123456789012:missing"),
        ("eventbridge", "KEYHOLE_EVENTBRIDGE_BUS", "missing"),
        ("sqs", "KEYHOLE_SQS_QUEUE", "/123456789012/missing"),
    ],
)
def test_what_is_missing_in_aws_is_told(
    keyhole: Keyhole, moto_url: str, sink: str, setting: str, place: str
) -> None:
    place = moto_url + place if place.startswith("/") else place
    settings = {setting: place, "KEYHOLE_SINKS": f"redis,{sink}", "AWS_ENDPOINT_URL": moto_url}

    state, message = told(keyhole, f"sink {sink}", AWS_DEFAULT_REGION="us-east-1", **settings)

    assert state == "bad"
    assert "missing" in message


def test_events_that_are_owed_are_counted(keyhole: Keyhole, valkey: redis.Redis) -> None:
    Deliveries(valkey, "webhook").record(EVENT)

    assert told(keyhole, "events owed") == ("advice", "1 event not sent to webhook yet; workers will retry")


def test_a_dead_event_is_listed_shown_and_retried(keyhole: Keyhole, valkey: redis.Redis) -> None:
    DeadLetters(valkey).add(Dead.event("webhook", EVENT, "http_401: unknown secret"))

    (line,) = keyhole("dead", "list", "--kind", "event", "--json").lines
    letter = json.loads(line)
    assert (letter["source"], letter["reason"]) == ("webhook", "http_401: unknown secret")
    assert "keyhole.verdict.v1" in keyhole("dead", "show", letter["id"]).out

    printed = keyhole("dead", "retry", letter["id"])

    assert printed.code == 0
    assert "its event will be sent to webhook" in printed.out
    hold = Deliveries(valkey, "webhook").hold_recorded(EVENT.id)
    assert hold is not None
    assert hold.debt == EVENT
    assert keyhole("dead", "list").lines == ["no dead letters"]


def test_a_malformed_secret_is_not_printed(keyhole: Keyhole) -> None:
    printed = keyhole("doctor", KEYHOLE_WEBHOOK_SECRET="my-secret")

    assert printed.code == 2
    assert printed.error.startswith("KEYHOLE_WEBHOOK_SECRET is wrong: a secret is whsec_")
    assert "my-secret" not in printed.err


def test_a_short_token_is_not_printed(keyhole: Keyhole) -> None:
    printed = keyhole("doctor", KEYHOLE_DASHBOARD_TOKEN="my-secret")

    assert printed.code == 2
    assert printed.error.startswith("KEYHOLE_DASHBOARD_TOKEN is wrong: ")
    assert "my-secret" not in printed.err
