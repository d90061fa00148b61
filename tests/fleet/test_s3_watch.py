"""Whether a worker can use S3: which errors mean that it cannot, and which are answers."""

import socket

import pytest

from keyhole.fleet import s3_watch
from keyhole.fleet.s3_watch import TroubleMark, why_unusable
from tests.servers.access import CREDENTIALS, isolate
from tests.servers.scripted_s3 import ScriptedS3, refuse


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch, **CREDENTIALS)


def asked(url: str) -> str | None:
    return why_unusable(url, "us-east-1")


def test_a_server_that_answers_can_be_used(moto_url: str) -> None:
    assert asked(moto_url) is None


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (404, "NoSuchBucket"), (501, "NotImplemented"), (405, "MethodNotAllowed")],
)
def test_that_it_does_not_list_buckets_is_an_answer(scripted: ScriptedS3, status: int, code: str) -> None:
    scripted.script(then=refuse(status, code))

    assert asked(scripted.url) is None


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "InvalidAccessKeyId", "the credentials are refused"),
        (403, "SignatureDoesNotMatch", "the credentials are refused"),
        (400, "ExpiredToken", "the credentials are refused"),
        (403, "RequestTimeTooSkewed", "clock"),
        (503, "SlowDown", "slow down"),
        (500, "InternalError", "the server failed"),
    ],
)
def test_that_it_refuses_whatever_is_asked_is_none(
    scripted: ScriptedS3, status: int, code: str, told: str
) -> None:
    scripted.script(then=refuse(status, code))

    assert told in str(asked(scripted.url))


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]

    assert "the connection failed" in str(asked(f"http://127.0.0.1:{port}"))


def test_a_server_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 waits longer, and then raises an error that has another message."""
    monkeypatch.setattr(s3_watch, "LONGEST_REQUEST", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert asked(f"http://127.0.0.1:{silent.getsockname()[1]}") == str(s3_watch.UNANSWERED)


@pytest.mark.parametrize(
    ("variables", "told"),
    [({"AWS_REGION": "us-east-1"}, "no credentials were found"), ({"AWS_PROFILE": "nope"}, "nope")],
)
def test_without_credentials_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, scripted: ScriptedS3, variables: dict[str, str], told: str
) -> None:
    isolate(monkeypatch, **variables)

    assert told in str(asked(scripted.url))
    assert not scripted.requests


def test_a_fault_that_passes_is_asked_again(scripted: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_watch, "START_PAUSE", 0)
    scripted.script(refuse(503, "SlowDown"), then=refuse(403, "AccessDenied"))

    assert why_unusable(scripted.url, "us-east-1", attempts=2) is None


def test_the_mark_tells_how_long_ago_there_was_trouble() -> None:
    mark = TroubleMark()
    assert mark.seconds_ago == float("inf")

    mark.set()

    assert 0 <= mark.seconds_ago < 60
