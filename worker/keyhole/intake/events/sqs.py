"""Receives messages from an SQS queue, to which S3 publishes, directly or through SNS or EventBridge.

- Each call is a long poll that returns up to 10 messages. If the caller wants more messages, the source makes
  several calls.
- SQS hides a received message for the queue's visibility timeout, which is 30 s by default, and then delivers
  it again. So the listener must acknowledge messages within the visibility timeout.
- To give a message back, Keyhole sets the message's visibility timeout to zero. If the queue has a redrive
  policy, every receive counts towards the policy's limit.
- When Keyhole acknowledges or gives back a batch, SQS reports success or failure for each message. Keyhole
  retries the failed messages. If Keyhole still cannot acknowledge a message, it raises an error, and SQS will
  deliver the message again.
- The body of an SQS message is text. `Message.body` contains this text in UTF-8.

Only one thread can use a source, so several threads need several sources. Create a source after the fork,
because processes must not share a boto3 client.

A source needs the permissions sqs:ReceiveMessage, sqs:DeleteMessage and sqs:ChangeMessageVisibility. If the
address is only the queue's name, the source also needs sqs:GetQueueUrl.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import boto3
import stamina
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from keyhole.intake.events.source import LookDeniedError, Message, SourceUnavailableError
from keyhole.sources.foreign_answer import refuse_foreign
from keyhole.tracing.tracer import TRACEPARENT

#: SQS's limits: the maximum number of messages in one call, and the longest poll in seconds.
MESSAGES_PER_CALL: Final = 10
_LONGEST_POLL_SECONDS: Final = 20
#: Timeouts in seconds for a response and for connecting. A response can take as long as the longest poll.
_ANSWER_SECONDS: Final = 40
_CONNECT_SECONDS: Final = 5
#: botocore tries a call at most _CALL_ATTEMPTS times. If SQS reports a failure for some messages of a batch,
#: Keyhole tries these messages at most _BATCH_ATTEMPTS times in _BATCH_SECONDS.
_CALL_ATTEMPTS: Final = 3
_BATCH_ATTEMPTS: Final = 4
_BATCH_SECONDS: Final = 10.0
#: The region in the signatures of requests to servers other than AWS. These servers ignore the region.
_REGION_ELSEWHERE: Final = "us-east-1"
#: The error code of a message about which the response to a batch says nothing.
_UNREPORTED: Final = "Unreported"

_ADVICE: Final = {
    "NonExistentQueue": "there is no such queue in this region; check its name, account and region",
    "QueueDoesNotExist": "there is no such queue in this region; check its name, account and region",
    "AccessDenied": (
        "access denied; Keyhole needs the permissions sqs:ReceiveMessage, sqs:DeleteMessage, "
        "sqs:ChangeMessageVisibility and sqs:GetQueueUrl"
    ),
}
#: The errors that boto3 raises, except `ClientError`, which it raises if the server refuses a request. For
#: invalid credentials or configurations, boto3 raises Python's built-in errors.
_FAILURES: Final = (
    BotoCoreError,
    HTTPClientError,
    ResponseParserError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
)


@dataclass(frozen=True)
class SqsQueue:
    """The address of a queue: its URL, or only its name, in the region and account of the credentials.

    `endpoint_url` is the URL of a server other than AWS. If `region` is `None`, boto3 determines the region.
    """

    queue: str
    url: str | None = None
    region: str | None = None
    endpoint_url: str | None = None

    @property
    def name(self) -> str:
        """The address for logs and error messages."""
        return f"sqs://{self.url.partition('://')[2] if self.url else self.queue}"


class _PartlyFailedError(Exception):
    """Some messages of a batch failed for a reason that may be temporary."""


class SqsSource:
    """A `source.MessageSource` for one queue. The source connects at the first `receive`.

    `answer_seconds` replaces the timeouts for connecting and for all responses, including those of long
    polls. If it is set, the source does not repeat failed calls.
    """

    def __init__(self, address: SqsQueue, *, answer_seconds: float | None = None) -> None:
        self.name = address.name
        self._address = address
        self._answer_seconds = answer_seconds
        # The installed type stubs of boto3 contain only S3.
        self._client: Any = None
        self._url = address.url
        #: The receipt handles of the messages that the caller has neither acknowledged nor given back.
        self._out: dict[str, None] = {}

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Return up to `limit` messages. Wait up to `wait_seconds` (rounded) for the first message.

        Raises:
            SourceUnavailableError: SQS does not respond or refuses access.
        """
        deadline = time.monotonic() + wait_seconds
        with self._unavailable_on_error():
            if self._url is None:
                self._url = self._sqs().get_queue_url(QueueName=self._address.queue)["QueueUrl"]
            messages = page = self._poll(limit, wait_seconds)
            while not page and (left := deadline - time.monotonic()) >= 1:
                messages = page = self._poll(limit, left)
            while len(page) == MESSAGES_PER_CALL and len(messages) < limit:
                page = self._poll(limit - len(messages), 0)
                messages = [*messages, *page]
        return messages

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages, which deletes them.

        Raises:
            SourceUnavailableError: Some messages could not be deleted. SQS will deliver these messages again.
        """
        failed = self._tell("delete_message_batch", messages)
        if failed:
            raise SourceUnavailableError(
                f"{self.name}: {len(failed)} of {len(messages)} messages could not be deleted "
                f"({', '.join(sorted(set(failed)))}) and will be delivered again"
            )

    def give_back(self, messages: Sequence[Message]) -> None:
        """Return messages to the queue.

        Raises:
            SourceUnavailableError: SQS does not respond. SQS will deliver the messages again after the
                visibility timeout.
        """
        # Ignore permanent failures. They mean that the visibility timeout of the messages has expired, so the
        # messages are already back in the queue.
        self._tell("change_message_visibility_batch", messages, VisibilityTimeout=0)

    def look(self) -> str:
        """Return the number of waiting messages. No message is received, so no receive count increases.

        This method needs the permission sqs:GetQueueAttributes, which is not necessary to receive messages.

        Raises:
            SourceUnavailableError: SQS does not respond or refuses access.
            LookDeniedError: Keyhole lacks the permission to read the status of the queue.
        """
        with self._unavailable_on_error():
            if self._url is None:
                self._url = self._sqs().get_queue_url(QueueName=self._address.queue)["QueueUrl"]
        try:
            with self._unavailable_on_error():
                found = self._sqs().get_queue_attributes(
                    QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"]
                )
        except SourceUnavailableError as error:
            if isinstance(error.__cause__, ClientError) and "AccessDenied" in _code(error.__cause__):
                raise LookDeniedError(
                    f"{self.name}: not checked, because the check needs the permission "
                    "sqs:GetQueueAttributes; listening does not need it"
                ) from error
            raise
        return f"about {int(found['Attributes']['ApproximateNumberOfMessages']):,} waiting"

    def close(self) -> None:
        """Return unacknowledged messages to the queue, and disconnect."""
        if self._client is not None:
            with suppress(SourceUnavailableError):
                self.give_back([Message(b"", receipt) for receipt in self._out])
            self._client.close()
            self._client = None

    def _sqs(self) -> Any:  # noqa: ANN401 - see `_client`
        if self._client is None:
            # Create a separate session, because threads must not create clients from a shared session.
            session = boto3.session.Session()
            elsewhere = _REGION_ELSEWHERE if self._address.endpoint_url else None
            self._client = session.client(
                "sqs",
                endpoint_url=self._address.endpoint_url,
                region_name=self._address.region or session.region_name or elsewhere,
                config=Config(
                    connect_timeout=self._answer_seconds or _CONNECT_SECONDS,
                    read_timeout=self._answer_seconds or _ANSWER_SECONDS,
                    retries={
                        "mode": "standard",
                        "total_max_attempts": 1 if self._answer_seconds else _CALL_ATTEMPTS,
                    },
                ),
            )
            refuse_foreign(self._client)
        return self._client

    def _poll(self, limit: int, seconds: float) -> list[Message]:
        answer = self._sqs().receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=min(limit, MESSAGES_PER_CALL),
            WaitTimeSeconds=min(round(seconds), _LONGEST_POLL_SECONDS),
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
            MessageAttributeNames=[TRACEPARENT],
        )
        messages = [
            Message(
                entry["Body"].encode(),
                entry["ReceiptHandle"],
                int(entry["Attributes"]["ApproximateReceiveCount"]),
                entry.get("MessageAttributes", {}).get(TRACEPARENT, {}).get("StringValue"),
            )
            for entry in answer.get("Messages", [])
        ]
        self._out.update((cast("str", message.receipt), None) for message in messages)
        return messages

    def _tell(self, operation: str, messages: Sequence[Message], **each: object) -> list[str]:
        """Call a batch operation for all messages, and return the error codes of permanent failures."""
        receipts = [cast("str", message.receipt) for message in messages]
        codes: list[str] = []
        with self._unavailable_on_error():
            for start in range(0, len(receipts), MESSAGES_PER_CALL):
                codes += self._tell_some(operation, receipts[start : start + MESSAGES_PER_CALL], each)
        return codes

    def _tell_some(self, operation: str, receipts: Sequence[str], each: dict[str, object]) -> list[str]:
        left = dict(enumerate(receipts))
        codes: list[str] = []
        retries = stamina.retry_context(
            on=_PartlyFailedError, attempts=_BATCH_ATTEMPTS, timeout=_BATCH_SECONDS, wait_initial=0.2
        )
        with suppress(_PartlyFailedError):
            for attempt in retries:
                with attempt:
                    entries = [
                        {"Id": str(number), "ReceiptHandle": receipt, **each}
                        for number, receipt in left.items()
                    ]
                    answer = getattr(self._sqs(), operation)(QueueUrl=self._url, Entries=entries)
                    for entry in answer.get("Successful", []):
                        self._out.pop(left.pop(int(entry["Id"])), None)
                    failed = answer.get("Failed", [])
                    codes = [entry["Code"] for entry in failed]
                    silent = len(left) - len(failed)
                    if silent > 0:  # a server must report success or failure for each message
                        codes += [_UNREPORTED] * silent
                    if silent > 0 or any(not entry["SenderFault"] for entry in failed):
                        raise _PartlyFailedError(", ".join(codes))
        return codes

    @contextmanager
    def _unavailable_on_error(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = _code(error)
            advice = next((text for part, text in _ADVICE.items() if part in code), str(error))
            place = f" ({self._client.meta.region_name})" if "in this region" in advice else ""
            raise SourceUnavailableError(f"{self.name}: {advice}{place}") from error
        except _FAILURES as error:
            raise SourceUnavailableError(f"{self.name}: {error}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
