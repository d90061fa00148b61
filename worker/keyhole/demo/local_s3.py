"""The local S3 of the demo: moto's server, which stores the sample images in memory.

`python -m keyhole.demo.local_s3 --host 0.0.0.0 --port 9000` runs the server until SIGTERM or Ctrl-C. With
`--events`, the server sends an event about every object, including the samples, to an SQS queue on the same
port. The path of the queue's URL is `/123456789012/demo-images`.
"""

import argparse
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from keyhole.demo.samples import SAMPLES, Sample

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "demo-images"
#: The credentials that the demo uses. They are not secret, because moto accepts all credentials.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "demo",
    "AWS_SECRET_ACCESS_KEY": "demo",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@contextmanager
def local_s3(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Run the server in a thread and yield its URL. If `port` is 0, the system chooses a free port."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - optional; only the demo needs it

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=host, port=port, verbose=False)
    server.start()
    try:
        bound_host, bound_port = server.get_host_and_port()
        yield f"http://{bound_host}:{bound_port}"
    finally:
        server.stop()


def demo_client(endpoint_url: str) -> "S3Client":
    """Return a client for the local S3."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        config=Config(request_checksum_calculation="when_required"),
    )


def fill(client: "S3Client", done: Callable[[Sample], object], *, events: bool = False) -> None:
    """Create the bucket and upload every sample. Call `done` after each upload.

    If `events` is true, the bucket sends events about the samples and about later objects (see `notify`).
    """
    client.create_bucket(Bucket=BUCKET)
    if events:
        notify(client)
    for sample in SAMPLES:
        put(client, sample)
        done(sample)


def put(client: "S3Client", sample: Sample) -> None:
    """Upload a sample to the bucket."""
    client.put_object(Bucket=BUCKET, Key=sample.key, Body=sample.build().to_bytes())


def notify(client: "S3Client") -> str:
    """Configure the bucket to send events about new objects to an SQS queue, and return the queue's URL."""
    sqs = boto3.client(
        "sqs",
        endpoint_url=client.meta.endpoint_url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
    )
    url: str = sqs.create_queue(QueueName=BUCKET)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client.put_bucket_notification_configuration(
        Bucket=BUCKET,
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    return url


def serve() -> None:
    """Run the server with all samples in the foreground until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        description="Run a local S3 server that contains the demo's sample images."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument(
        "--events", action="store_true", help="Send events about new objects to an SQS queue."
    )
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with local_s3(arguments.host, arguments.port) as url:
        fill(
            demo_client(url),
            lambda sample: print(f"put s3://{BUCKET}/{sample.key}", flush=True),  # noqa: T201 - the log of this server
            events=arguments.events,
        )
        print(f"serving s3://{BUCKET}/ at {url}", flush=True)  # noqa: T201 - the log of this server
        stop.wait()


if __name__ == "__main__":
    serve()
