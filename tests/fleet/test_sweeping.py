"""Sweeps are published again and again, whatever the broker answers."""

import os
from collections.abc import Iterator

import pytest
import redis
from kombu import pools

from keyhole.app import app, configure
from keyhole.fleet import sweeping
from keyhole.fleet.services import Services
from keyhole.settings import Settings
from tests.servers.rabbitmq import RabbitMQ


@pytest.fixture
def blocked(
    rabbitmq: RabbitMQ, valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RabbitMQ]:
    """A RabbitMQ that has too little memory is the broker of this process."""
    valkey.ping()
    chosen = Settings.model_validate({"redis_url": valkey_url, "broker_url": rabbitmq.url("keyhole")})
    before = {name: app.conf[name] for name in ("broker_url", "broker_transport_options")}
    working = Services(chosen, os.getpid())
    monkeypatch.setattr(sweeping, "services", lambda: working)
    configure(chosen)
    rabbitmq.control("set_vm_memory_high_watermark", "0.0000001")
    yield rabbitmq
    rabbitmq.control("set_vm_memory_high_watermark", "0.4")
    pools.reset()
    app.conf.update(before)
    app._after_fork()
    working.redis.close()


@pytest.mark.slow
@pytest.mark.usefixtures("blocked")
def test_a_sweep_that_rabbitmq_does_not_accept_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    sweeping.publish_sweep()

    assert "a sweep could not be published: RabbitMQ accepts no messages" in caplog.text
