"""A queue of S3's events, and a listener that receives from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4

import boto3

from tests.e2e import commands
from tests.e2e.conftest import Site


@contextmanager
def listening(site: Site, url: str, log: Path, **settings: str) -> "Iterator[Popen[bytes]]":
    """A running listener."""
    env = {**site.env, "XDG_RUNTIME_DIR": str(log.parent), **settings}
    with commands.started("listen", url, env=env, log=log) as process:
        commands.until(lambda: log.exists() and b"listening" in log.read_bytes())
        yield process


class Queue:
    """An SQS queue that receives the events of one of the site's buckets."""

    def __init__(self, site: Site) -> None:
        access: dict[str, Any] = {
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "region_name": "us-east-1",
        }
        self._sqs: Any = boto3.client("sqs", endpoint_url=site.held.url, **access)
        self.url: str = self._sqs.create_queue(QueueName=f"events-{uuid4().hex}")["QueueUrl"]
        self.bucket = site.bucket()
        arn = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]
        kinds = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*", "s3:ObjectTagging:*"]
        configuration: Any = {"QueueConfigurations": [{"QueueArn": arn["QueueArn"], "Events": kinds}]}
        site.s3.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration=configuration
        )

    def send(self, body: bytes, **attributes: str) -> None:
        """Send a message that is not from S3."""
        given = {name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()}
        self._sqs.send_message(QueueUrl=self.url, MessageBody=body.decode(), MessageAttributes=given)

    @property
    def left(self) -> int:
        """The number of messages in the queue, including received ones."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)
