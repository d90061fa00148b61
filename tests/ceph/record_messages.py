"""Records Ceph's messages to RabbitMQ: `python -m tests.ceph.record_messages` overwrites `ceph_*.json`."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from keyhole.intake.events.open_source import open_source
from tests.ceph.deeds import Deed, deeds
from tests.ceph.notifying import Notifier
from tests.servers.access import CREDENTIALS
from tests.servers.ceph_rgw import CephRgw, ceph_rgw
from tests.servers.rabbitmq import RabbitMQ, rabbitmq_server

RECORDED = Path(__file__).parents[1] / "intake" / "events" / "recorded"
#: If no message arrives for this many seconds, all messages have arrived.
PATIENCE = 30.0


@contextmanager
def notifying(rgw: CephRgw, rabbitmq: RabbitMQ) -> Iterator[Notifier]:
    """Yield a client of the bucket's owner, which can subscribe a broker to events."""
    access: Any = {
        "endpoint_url": rgw.url,
        "region_name": "us-east-1",
        "aws_access_key_id": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    }
    s3, sns = boto3.client("s3", **access), boto3.client("sns", **access)
    yield Notifier(s3, sns, rabbitmq)
    s3.close()
    sns.close()


def messages_of(notifier: Notifier, bucket: str) -> tuple[list[Deed], list[bytes]]:
    """Do all deeds in a new bucket. Return them and the messages that they caused, in order of arrival.

    No request waits for the broker's confirmation: otherwise DeleteObjects would abort the gateway.
    """
    notifier.s3.create_bucket(Bucket=bucket)
    source = open_source(notifier.tell_of(bucket, ack_level="none"), listener_id="recorder")
    bodies: list[bytes] = []
    try:
        source.receive(1, 0)
        done = list(deeds(notifier.s3, bucket))
        # The last deed causes a message. When it has arrived, all earlier messages have arrived too.
        while len(bodies) < sum(len(deed.told) for deed in done):
            received = source.receive(100, PATIENCE)
            if not received:
                break
            bodies += [message.body for message in received]
            source.acknowledge(received)
    finally:
        source.close()
    return done, bodies


def record() -> None:
    """Write each message to its own file, unchanged."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ceph_rgw(Path(folder)) as rgw,
        rabbitmq_server() as rabbitmq,
        notifying(rgw, rabbitmq) as notifier,
    ):
        done, bodies = messages_of(notifier, "images")
    names = [deed.name for deed in done for _ in deed.told]
    for name, body in zip(names, bodies, strict=True):
        (RECORDED / f"ceph_{name}.json").write_bytes(body)


if __name__ == "__main__":
    record()
