"""Has Ceph's RGW tell RabbitMQ of what happens in a bucket, as its administrators do.

What RGW 16.2.15 does with a topic whose `push-endpoint` is `amqp://…`, tried:

- It publishes to the exchange `amqp-exchange`, a topic exchange, with the topic's name as routing key. It
  does not declare one, and until it is there all events are lost. All topics that go to one broker must name
  the same exchange.
- User and password in the endpoint are refused unless the topic is created by TLS; else it is `guest`.
- Unless the topic is `persistent`, an event is published before the request is answered: once, never again.
  With the broker away the request succeeds all the same, and a line in RGW's log is all that is left of the
  event. The first request after the broker is back is lost, too, if RGW has not connected again by then.
- `persistent=true` keeps events until the broker takes them, in order, and delivers within a quarter of a
  second; those of a new topic after up to 30 seconds. While the broker is away, the log fills with retries.
- `amqp-ack-level`: with `broker`, the default, the request waits for the broker's confirmation, some 0.2
  seconds, and the message survives a restart of the broker; with `none` neither. `routable` is like `broker`:
  that no queue is bound is told to nobody.
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
    """Clients of the bucket's owner, for S3 and for topics, and the broker that is told."""

    s3: Any
    sns: Any
    rabbitmq: RabbitMQ

    def tell_of(self, bucket: str, *, ack_level: str) -> str:
        """Tell of a bucket, to a new topic of this ack level, and return the URL of a queue that gets it.

        The queue and the exchange are there when somebody first asks for messages by that URL.
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
