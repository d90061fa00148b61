"""Lets Ceph's RGW publish a bucket's events to RabbitMQ, configured as its administrators do.

Tests of RGW 16.2.15 with a topic whose `push-endpoint` is `amqp://…` showed:

- It publishes to the exchange `amqp-exchange`, a topic exchange, with the topic's name as routing key. It
  does not declare the exchange, and all events are lost until the exchange exists. All topics that go to one
  broker must name the same exchange.
- It refuses user and password in the endpoint unless the topic is created by TLS; otherwise it uses `guest`.
- Unless the topic is `persistent`, RGW publishes an event once, before it answers the request, and never
  again. If the broker is away, the request still succeeds, and only a line in RGW's log records the event.
  The event of the first request after the broker is back is lost, too, if RGW has not reconnected by then.
- `persistent=true` keeps events until the broker takes them, in order, and delivers within a quarter of a
  second; those of a new topic after up to 30 seconds. While the broker is away, the log fills with retries.
- `amqp-ack-level`: with `broker`, the default, the request waits for the broker's confirmation, some 0.2
  seconds, and the message survives a restart of the broker. With `none` the request does not wait and the
  message does not survive. `routable` is like `broker`: nobody learns that no queue is bound.
- DeleteObjects in a bucket whose topic is persistent, or whose ack level is not `none`, aborts the gateway.
- There are no events about tags.
"""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.servers.rabbitmq import PASSWORD, USER, RabbitMQ

EXCHANGE = "ceph"
EVENTS = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]


@dataclass(frozen=True)
class Notifier:
    """Clients of the bucket's owner, for S3 and for topics, and the broker that gets the events."""

    s3: Any
    sns: Any
    rabbitmq: RabbitMQ

    def tell_of(self, bucket: str, *, ack_level: str) -> str:
        """Publish a bucket's events to a new topic with this ack level; return the URL of its queue.

        The queue and the exchange are created when somebody first asks for messages by that URL.
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
