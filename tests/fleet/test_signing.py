"""This process signs the messages that it publishes, and a worker refuses unsigned messages."""

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import redis
from celery.worker.control import Panel

import keyhole.fleet.consumer  # noqa: F401 - a worker imports it
from keyhole import tasks
from keyhole.app import app, configure
from keyhole.fleet import services as services_module
from keyhole.fleet import signing, wiring
from keyhole.fleet.scheduling import TASK
from keyhole.fleet.services import services, use_settings
from keyhole.intake.audits.records import Claim
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import AUDITS, HOUSEKEEPING, JOBS, QUEUES
from keyhole.jobs.signatures import HEADER
from keyhole.settings import Settings

REMEMBERED = 3600.0


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(token_hex(32))
    return path


@pytest.fixture
def _site(
    valkey: redis.Redis,  # noqa: ARG001 - the fixture empties it
    valkey_url: str,
    key_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    monkeypatch.setattr(services_module, "_services", None)
    settings = Settings(redis_url=valkey_url, signing_key_file=key_file)
    configure(settings)
    use_settings(settings)
    yield
    configure(Settings())


def published(valkey: redis.Redis) -> list[tuple[str, dict[str, Any], bytes]]:
    """All messages in the queues: the queue, headers and body of each."""
    found = []
    for queue in QUEUES:
        for item in valkey.lrange(f"keyhole:broker:{queue}", 0, -1):
            message = json.loads(item)
            found.append((queue, message["headers"], b64decode(message["body"])))
    return found


def is_open(_: str) -> bool:
    return False


def why_refused(queue: str, headers: dict[str, Any], body: bytes) -> str | None:
    return signing.why_refused(queue, headers, body, remembered=REMEMBERED, is_open=is_open)


@pytest.mark.usefixtures("_site")
class TestPublishing:
    def test_whatever_is_published_is_signed(self, valkey: redis.Redis) -> None:
        job = ScanJob(bucket="b", key="naïve\x1b\u202e \U0001f511")
        tasks.scan.delay("s3://b/delay")
        tasks.scan_batch.delay(["s3://b/1", "s3://b/2"])
        tasks.submit([job] * 3, batch_size=2)
        wiring.CeleryPublisher(tasks.app).publish([Entry("audit", (job,), AUDITS, "a")])
        wiring.publish_page(tasks.app, Claim("a", 1, "token"))
        app.send_task("keyhole.sweep", queue=HOUSEKEEPING, expires=600)
        app.send_task(TASK, ["nightly", {"bucket": "b"}], queue=HOUSEKEEPING, expires=3600, retry=True)

        messages = published(valkey)

        assert {queue for queue, _, _ in messages} == {JOBS, AUDITS, HOUSEKEEPING}
        assert len(messages) == 8
        assert [why_refused(*message) for message in messages] == [None] * 8

    def test_a_retry_is_signed_anew(self, valkey: redis.Redis) -> None:
        tasks.scan.delay("s3://b/key")
        ((queue, headers, body),) = published(valkey)
        valkey.flushall()

        tasks.scan.signature_from_request(
            type("Request", (tasks.scan.request.__class__,), {})(
                headers | {"args": json.loads(body)[0], "kwargs": {}, "called_directly": False}
            ),
            args=json.loads(body)[0],
            kwargs={},
            retries=1,
            countdown=0,
        ).apply_async()

        ((_, again, body),) = published(valkey)
        assert again["retries"] == 1
        assert again[HEADER] != headers[HEADER]
        assert why_refused(queue, again, body) is None

    def test_without_keys_nothing_is(self, valkey: redis.Redis, valkey_url: str) -> None:
        configure(Settings(redis_url=valkey_url))
        tasks.scan.delay("s3://b/key")
        ((queue, headers, body),) = published(valkey)
        assert HEADER not in headers
        assert why_refused(queue, headers, body) is None


@pytest.mark.usefixtures("_site")
class TestACopy:
    @pytest.fixture
    def message(self, valkey: redis.Redis, _site: None) -> tuple[str, dict[str, Any], bytes]:
        tasks.scan.delay("s3://b/key")
        (message,) = published(valkey)
        return message

    @pytest.fixture
    def _later(self, message: object, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG002 - it is signed before
        real = signing.time.time
        monkeypatch.setattr("keyhole.fleet.signing.time.time", lambda: real() + REMEMBERED + 1)

    @pytest.mark.usefixtures("_later")
    def test_of_work_that_is_forgotten_is_refused(self, message: tuple[str, dict[str, Any], bytes]) -> None:
        refused = why_refused(*message)
        assert refused is not None
        assert "may be a replay of finished work" in refused

    @pytest.mark.usefixtures("_later")
    def test_an_old_message_whose_work_is_open_is_none(
        self, message: tuple[str, dict[str, Any], bytes]
    ) -> None:
        """A queue can contain more than a day's work."""
        refused = signing.why_refused(*message, remembered=REMEMBERED, is_open=services().ledger.is_open)
        assert refused is None

    def test_of_work_that_is_remembered_does_nothing(
        self, message: tuple[str, dict[str, Any], bytes]
    ) -> None:
        ((entry,),) = [json.loads(message[2])[0]]
        tasks.give_up(ENTRY.validate_python(entry), "for the test")
        services().ledger.complete(ENTRY.validate_python(entry))
        letters = services().dead_letters.count()

        assert why_refused(*message) is None
        tasks.scan.work_on(entry)

        assert services().store.get("b", "key", None) is None
        assert services().dead_letters.count() == letters


def test_of_the_commands_to_workers_there_is_the_doctors_ping_alone() -> None:
    assert set(Panel.data) == {"ping"}
