"""A fixture that lets this process work as a worker."""

import os
from collections.abc import Iterator

import pytest
import redis

from keyhole.fleet import services as serving
from keyhole.fleet.services import Services
from keyhole.settings import Settings
from tests.servers.access import CREDENTIALS, isolate


@pytest.fixture
def works_here(
    valkey: redis.Redis, valkey_url: str, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    """Let this process work, with an empty Redis and a local S3; return its services."""
    valkey.ping()
    isolate(monkeypatch, **CREDENTIALS)
    settings = Settings(redis_url=valkey_url, s3_endpoint_url=moto_url)
    working = Services(settings, os.getpid())
    monkeypatch.setattr(serving, "_services", working)
    yield working
    working.redis.close()
