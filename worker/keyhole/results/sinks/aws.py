"""Sends events to AWS: to an SNS topic, an EventBridge bus or an SQS queue.

- boto3 finds the credentials in its usual places. If the server is not AWS, boto3 finds its endpoint in
  `AWS_ENDPOINT_URL_SNS` and similar variables. The requests of this module use the same credentials, proxies
  and certificates as requests to S3.
- Each event is one request, which takes at most `SECONDS`. boto3 does not repeat a failed request; Keyhole
  sends the event again later.
- If the name of the topic or queue ends in `.fifo`, the events of an object stay in order. AWS then drops an
  event that arrives within five minutes after another event with the same id.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import ClientError

from keyhole.results.sinks.delivery import DeliveryError
from keyhole.results.sinks.event import SOURCE, TYPE, Event
from keyhole.sources.credentials import find_credentials
from keyhole.sources.deadline import deadline
from keyhole.sources.foreign_answer import refuse_foreign
from keyhole.sources.proxies import Proxies
from keyhole.sources.s3_client import S3Options, make_session, use_proxies
from keyhole.sources.s3_deadline import add_deadlines
from keyhole.sources.s3_refusal import BOTO_ERRORS
from keyhole.sources.trust import choose_trust

_Service = Literal["sns", "events", "sqs"]
#: Seconds for a whole request, and for each wait for a connection or for bytes.
SECONDS, WAIT_SECONDS = 15.0, 5.0
#: Two patterns that find the region: one for ARNs, and one for the host names of SQS at AWS.
_ARN_REGION: Final = re.compile(r"arn:[^:]+:[^:]+:([^:]+):")
_HOST_REGION: Final = re.compile(r"\bsqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.|api\.)?(?:amazonaws|aws)\b")
_AWS_HOST: Final = re.compile(r"\.(?:amazonaws\.com(?:\.cn)?|api\.aws)$")

_UNTRIED: Final = "only a real event shows whether Keyhole has the permission"


class _Aws:
    """The base class of the three sinks.

    This class creates the boto3 client when it is first used, and turns the client's errors into
    `DeliveryError`.
    """

    def __init__(self, service: _Service, *, region: str | None, endpoint_url: str | None = None) -> None:
        self._service = service
        self._region = region
        self._endpoint_url = endpoint_url
        self._lock = threading.Lock()

    @cached_property
    def _made(self) -> Any:  # noqa: ANN401 - the installed type stubs only have S3
        session = make_session(S3Options(None, self._region, 1))
        configured = session._session.get_config_variable("ca_bundle")  # noqa: SLF001 - boto3 has no public way
        find_credentials(session)
        client = session.client(
            self._service,
            endpoint_url=self._endpoint_url,
            # Most servers other than AWS ignore the region, but boto3 needs one.
            region_name=session.region_name
            or os.environ.get("AWS_REGION")
            or ("us-east-1" if self._endpoint_url else None),
            verify=str(choose_trust(configured, os.environ).bundle),
            config=Config(
                connect_timeout=WAIT_SECONDS,
                read_timeout=WAIT_SECONDS,
                retries={"total_max_attempts": 1},
                user_agent_extra="keyhole",
                proxies={},
            ),
        )
        refuse_foreign(client)
        use_proxies(client, Proxies.of(os.environ))
        add_deadlines(client)
        return client

    @property
    def _client(self) -> Any:  # noqa: ANN401 - as above
        with self._lock:
            return self._made

    @contextmanager
    def _errors(self, place: str) -> Iterator[None]:
        """Turn errors of boto3 into `DeliveryError`."""
        try:
            with deadline(SECONDS) as timer:
                yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "refused"))
            raise DeliveryError(code, f"{place}: {error}") from error
        except (*BOTO_ERRORS, OSError, KeyError, TypeError) as error:
            text = f"no answer within {SECONDS:g} s" if timer.expired else str(error)
            raise DeliveryError("timeout" if timer.expired else "connection", f"{place}: {text}") from error

    @contextmanager
    def _looking(self, place: str, permission: str) -> Iterator[None]:
        """Turn errors of a check into `DeliveryError`. If AWS denies the check, the reason is `unchecked`."""
        try:
            with self._errors(place):
                yield
        except DeliveryError as error:
            if "AccessDenied" not in error.reason and "AuthorizationError" not in error.reason:
                raise
            raise DeliveryError(
                "unchecked",
                f"{place}: not checked: the check needs {permission}, which sending does not need",
            ) from error


class SnsTopic(_Aws):
    """An SNS topic, identified by its ARN. Sending needs the permission sns:Publish."""

    def __init__(self, arn: str) -> None:
        super().__init__("sns", region=_region_of(arn))
        self._arn = arn

    def send(self, event: Event) -> None:
        """Publish an event.

        The event's status and bucket are message attributes, so that filter policies can use them.
        """
        data = event.data
        attributes = {
            name: {"DataType": "String", "StringValue": str(data[name])} for name in ("status", "bucket")
        }
        with self._errors(self._arn):
            self._client.publish(
                TopicArn=self._arn,
                Message=event.body.decode(),
                MessageAttributes=attributes,
                **_ordered(self._arn, event),
            )

    def check(self) -> str:
        """Check that the topic exists."""
        with self._looking(self._arn, "sns:GetTopicAttributes"):
            self._client.get_topic_attributes(TopicArn=self._arn)
        return f"{self._arn} exists; {_UNTRIED} sns:Publish"


class EventBridgeBus(_Aws):
    """An EventBridge bus, identified by its name or ARN. Sending needs the permission events:PutEvents."""

    def __init__(self, bus: str, *, region: str | None) -> None:
        super().__init__("events", region=_region_of(bus) or region)
        self._bus = bus

    def send(self, event: Event) -> None:
        """Put an event on the bus."""
        entry = {
            "EventBusName": self._bus,
            "Source": SOURCE,
            "DetailType": TYPE,
            "Detail": event.body.decode(),
        }
        with self._errors(self._bus):
            answer = self._client.put_events(Entries=[entry])
            if answer.get("FailedEntryCount"):
                failed = answer["Entries"][0]
                code = str(failed.get("ErrorCode", "refused"))
                raise DeliveryError(code, f"{self._bus}: {code}: {failed.get('ErrorMessage', '')}")

    def check(self) -> str:
        """Check that the bus exists."""
        with self._looking(self._bus, "events:DescribeEventBus"):
            self._client.describe_event_bus(Name=self._bus)
        return f"{self._bus} exists; {_UNTRIED} events:PutEvents"


class SqsQueue(_Aws):
    """An SQS queue, identified by its URL. Sending needs the permission sqs:SendMessage."""

    def __init__(self, url: str, *, region: str | None) -> None:
        parts = urlsplit(url)
        found = _HOST_REGION.search(parts.netloc)
        elsewhere = None if _AWS_HOST.search(str(parts.hostname)) else f"{parts.scheme}://{parts.netloc}"
        super().__init__("sqs", region=found[1] if found else region, endpoint_url=elsewhere)
        self._url = url

    def send(self, event: Event) -> None:
        """Send an event as a message."""
        with self._errors(self._url):
            self._client.send_message(
                QueueUrl=self._url, MessageBody=event.body.decode(), **_ordered(self._url, event)
            )

    def check(self) -> str:
        """Check that the queue exists."""
        with self._looking(self._url, "sqs:GetQueueAttributes"):
            self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        return f"{self._url} exists; {_UNTRIED} sqs:SendMessage"


def _region_of(arn: str) -> str | None:
    found = _ARN_REGION.match(arn)
    return found[1] if found else None


def _ordered(place: str, event: Event) -> dict[str, str]:
    """Return the parameters that a FIFO queue or topic needs."""
    if not place.endswith(".fifo"):
        return {}
    # An object's key cannot be the id of the message group, because the id has at most 128 characters and a
    # key can be longer.
    return {"MessageGroupId": event.group, "MessageDeduplicationId": event.id}
