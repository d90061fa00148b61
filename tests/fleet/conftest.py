"""Fixtures: this process works as a worker, and its failed requests to S3 are counted."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest
import redis

from keyhole.fleet import services as serving
from keyhole.fleet.services import Services
from keyhole.metrics.recorder import Recorder, recorder, use_recorder
from keyhole.reasons import Reason
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


class FailureCounter(Recorder):
    """Counts failed requests to S3."""

    def __init__(self) -> None:
        self.counted: Counter[Reason] = Counter()

    def failures(self, errors: Mapping[Reason, int], retries: int) -> None:  # noqa: ARG002 - as in the base
        self.counted.update(errors)


@pytest.fixture
def failures() -> Iterator[Counter[Reason]]:
    """The failed requests to S3 during the test, by reason."""
    before, counting = recorder(), FailureCounter()
    use_recorder(counting)
    yield counting.counted
    use_recorder(before)
