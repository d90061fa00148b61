"""Configures Ceph's RGW to publish a bucket's events to RabbitMQ, as an administrator does.

Tests of RGW 16.2.15 with a topic whose `push-endpoint` is `amqp://…` showed:

- RGW publishes to the topic exchange `amqp-exchange`, with the topic's name as routing key. It does not
  declare the exchange, and all events are lost until the exchange exists. All topics with the same broker
  must name the same exchange.
- RGW refuses user and password in the endpoint unless the topic is created over TLS. Otherwise it uses
  `guest`.
- Unless the topic is `persistent`, RGW publishes an event once, before it answers the request, and never
  again. If the broker is not running, the request succeeds, and only a line in RGW's log records the event.
  The first event after the broker's return is also lost if RGW has not reconnected by then.
- With `persistent=true`, RGW stores events until the broker accepts them, in order. It delivers within 0.25
  seconds; for a new topic after up to 30 seconds. While the broker is not running, the log fills with
  retries.
- With the default `amqp-ack-level`, `broker`, the request waits for the broker's confirmation, about 0.2
  seconds, and the message survives a restart of the broker. With `none`, the request does not wait and the
  message does not survive. `routable` is like `broker`: no error is reported if no queue is bound.
- DeleteObjects aborts the gateway if the bucket's topic is persistent or its ack level is not `none`.
- RGW sends no events about tags.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.servers.rabbitmq import PASSWORD, USER, RabbitMQ

EXCHANGE = "ceph"
EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


@dataclass(frozen=True)
class Notifier:
    """Clients of the bucket's owner, for S3 and for topics, and the broker that receives the events."""

    s3: Any
    sns: Any
    rabbitmq: RabbitMQ

    def tell_of(self, bucket: str, *, ack_level: str) -> str:
        """Publish a bucket's events to a new topic with this ack level, and return the URL of its queue.

        The queue and the exchange are created when a program first receives messages from that URL.
        """
        topic = f"topic-{uuid4().hex}"
        attributes = {
            "push-endpoint": f"amqp://127.0.0.1:{self.rabbitmq.port}",
            "amqp-exchange": EXCHANGE,
            "amqp-ack-level": ack_level,
        }
        arn = self.sns.create_topic(Name=topic, Attributes=attributes)["TopicArn"]
        told = {"Id": "keyhole", "TopicArn": arn, "Events": EVENTS}
        self.s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"TopicConfigurations": [told]}
        )
        place = f"{USER}:{PASSWORD}@127.0.0.1:{self.rabbitmq.port}"
        return f"amqp://{place}/{topic}?exchange={EXCHANGE}&routing_key={topic}&exchange_type=topic"
