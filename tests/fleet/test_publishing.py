"""Publishing: a broken connection leaves the delivery uncertain, and changed settings are used."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kombu import pools
from kombu.exceptions import BatchPublishError
from kombu.transport.redis import PublishBatch

from keyhole.app import app, configure
from keyhole.fleet.wiring import CeleryPublisher, queue_length, restore_overdue
from keyhole.jobs.entry import Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.publisher import DeliveryUncertainError
from keyhole.jobs.queues import JOBS
from keyhole.settings import Settings
from tests.faults.valkey import Valkey

ENTRY = Entry("job", (ScanJob(id="job", bucket="images", key="a.qcow2"),))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Valkey]:
    """A broker that only this test uses."""
    valkey = Valkey(tmp_path)
    valkey.start()
    before = {name: app.conf[name] for name in ("broker_url", "broker_transport_options")}
    configure(Settings(redis_url=valkey.url))
    yield valkey
    pools.reset()
    app.conf.update(before)
    app._after_fork()
    valkey.end()


@pytest.fixture
def lost(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - the fixture must run
    """A batch whose connection broke while it was being sent."""

    def die(*_: object) -> None:
        raise BatchPublishError("Redis publish batch failed; delivery is uncertain")

    with monkeypatch.context() as dying:
        dying.setattr(PublishBatch, "flush", die)
        with pytest.raises(DeliveryUncertainError, match="were published"):
            CeleryPublisher(app).publish([ENTRY])


@pytest.mark.usefixtures("lost")
def test_a_connection_that_died_under_a_batch_is_opened_again_by_the_next() -> None:
    CeleryPublisher(app).publish([ENTRY])

    assert queue_length(app, JOBS) == 1


@pytest.mark.usefixtures("lost")
def test_a_connection_that_died_under_a_batch_is_opened_again_by_a_sweep() -> None:
    """Publishers close the connection, and leave it in the pool."""
    restore_overdue(app)

    assert queue_length(app, JOBS) == 0


@pytest.mark.usefixtures("broker")
def test_it_follows_the_settings_to_another_broker(valkey: redis.Redis, valkey_url: str) -> None:
    CeleryPublisher(app).publish([ENTRY])

    configure(Settings(redis_url=valkey_url))
    CeleryPublisher(app).publish([ENTRY])

    assert valkey.llen(f"keyhole:broker:{JOBS}") == 1
