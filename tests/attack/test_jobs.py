"""A running worker refuses forged messages on each broker, and continues to work."""

import json
from collections.abc import Callable, Iterator

import pytest

from keyhole.jobs.queues import QUEUES
from tests.attack import jobs
from tests.attack.site import MINE, OTHER, Site, attacked, body, headers, job
from tests.e2e import commands
from tests.servers.rabbitmq import RabbitMQ

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["redis", "amqp"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on each broker in turn."""
    url = None
    if request.param == "amqp":
        server: RabbitMQ = request.getfixturevalue("running_rabbitmq")
        server.delete_queues(QUEUES)
        url = server.url("keyhole")
    with attacked(tmp_path_factory.mktemp("attacked"), broker_url=url) as site:
        yield site
        # After all attacks the worker still works, and has sent no request for the other bucket.
        (verdict,) = site.submit(f"s3://{MINE}/safe.qcow2")
        assert verdict["status"] == "safe"
        assert site.asked_of(OTHER) == []
        assert site.worker.poll() is None


@pytest.mark.parametrize("attack", jobs.ATTACKS, ids=lambda attack: attack.__name__)
def test_the_worker_refuses(site: Site, attack: Callable[[Site], str]) -> None:
    if attack is jobs.no_json and site.settings.broker_url != site.settings.redis_url:
        pytest.skip("RabbitMQ has no lists to put anything into")
    attack(site)


class TestAnOperator:
    def test_audits_by_messages_that_workers_sign(self, site: Site) -> None:
        done = commands.keyhole("audit", "--json", f"s3://{MINE}/", env=site.env)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["state"] == "done"

    def test_retries_what_is_not_signed_only_by_its_name(self, site: Site) -> None:
        argument = job()
        letter = site.letter(lambda: site.publish(body(argument), headers(argument)))

        done = commands.keyhole("dead", "retry", "--all", env=site.env)
        assert done.returncode == 3
        assert b"it is not signed; inspect it, and retry it by its id if it is genuine" in done.stderr
        assert site.dead.get(letter.id) is not None

        done = commands.keyhole("dead", "retry", letter.id, env=site.env)
        assert (done.returncode, done.stderr) == (0, b"")
        commands.until(lambda: site.ledger.is_done(argument["id"]))
        assert site.dead.get(letter.id) is None
