"""Real workers, confined, send events to a real HTTP server: no event is lost, and no verdict waits."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from threading import Event as Flag

import pytest

from keyhole.builders import qcow2
from keyhole.jobs.debts import LOST_SECONDS
from keyhole.jobs.deliveries import Deliveries
from keyhole.reasons import Status
from tests.e2e import commands
from tests.e2e.conftest import Site
from tests.e2e.deeds import submit
from tests.jobs.clock import pass_seconds
from tests.servers.certificates import Authority
from tests.servers.webhook_server import Handler, WebhookServer, status, webhook_server

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def server(authority: Authority) -> Iterator[WebhookServer]:
    with webhook_server(authority.sign("127.0.0.1")) as server:
        yield server


@pytest.fixture
def site(faulty_site: Site, server: WebhookServer, authority: Authority) -> Site:
    """A site whose verdicts go to Redis and to the server, which uses TLS."""
    faulty_site.held.release()
    settings = {
        "KEYHOLE_SINKS": "redis,webhook",
        "KEYHOLE_WEBHOOK_URL": server.url,
        "KEYHOLE_WEBHOOK_SECRET": SECRET,
        "KEYHOLE_WEBHOOK_PRIVATE": "true",
        "AWS_CA_BUNDLE": str(authority.file),
    }
    return replace(faulty_site, env=faulty_site.env | settings)


def test_a_worker_that_is_killed_before_it_settles_loses_no_event(site: Site, server: WebhookServer) -> None:
    bucket = site.bucket()
    site.s3.put_object(Bucket=bucket, Key="safe", Body=SAFE)
    site.s3.put_object(Bucket=bucket, Key="unsafe", Body=UNSAFE)
    killed = Flag()

    def hang(_: Handler) -> None:
        killed.wait(commands.PATIENCE)

    # Given a webhook that does not answer its first request
    server.answers += [hang, status(500)]
    deliveries = Deliveries(site.redis, "webhook")
    with commands.worker(site.env, site.log) as process:
        entry = submit(site, bucket, "safe", "unsafe")
        server.wait_for(1)
        # Then the verdicts do not wait for it
        site.completed(entry)
        verdict = site.store.get(bucket, "unsafe")
        assert verdict is not None
        assert verdict.status is Status.UNSAFE
        # When the whole worker is killed during the request
        for pid in commands.children(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()
    killed.set()
    assert deliveries.count_due() == 0

    # Then another worker sends the event again, and tries again after a failure
    pass_seconds(site.redis, LOST_SECONDS)
    with commands.worker(site.env, site.log):
        server.wait_for(2)
        commands.until(lambda: deliveries.count() == 1)
        pass_seconds(site.redis, 10)
        requests = server.wait_for(3)
        commands.until(lambda: not site.redis.keys("*sink:webhook*"))

    assert len({request.body for request in requests}) == 1
    event = json.loads(requests[0].body)
    assert (event["data"]["key"], event["data"]["status"]) == ("unsafe", "unsafe")
