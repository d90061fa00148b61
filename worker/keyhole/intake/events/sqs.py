"""Messages from an SQS queue, to which S3 publishes, by itself or by way of SNS or EventBridge.

- A receive is a long poll for up to 10 messages; a longer batch is several calls.
- What was received is hidden from others for the queue's visibility timeout, 30 s by default, and comes again
  after it, to whoever asks. So its work must be taken over by then.
- It is given back by a visibility timeout of zero. Each receive counts for the queue's redrive policy, if it
  has one, which moves a message away.
- Of a batch each message succeeds or fails by itself. What failed is told again; what fails each time is an
  error, and comes again.
- A body is text, and without most control characters: SQS takes no other. Here it is UTF-8.

One thread uses it. Several pollers are several sources, in threads or processes of their own. A client must
not be shared across a fork, so make the source after it.

It takes sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility; sqs:GetQueueUrl, too, for a queue
that is known by its name alone.
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

#: What SQS takes in one call, and the longest poll in seconds.
MESSAGES_PER_CALL: Final = 10
_LONGEST_POLL_SECONDS: Final = 20
#: Seconds for an answer, more than the longest poll; and for a connection.
_ANSWER_SECONDS: Final = 40
_CONNECT_SECONDS: Final = 5
#: botocore's attempts at a call that fails as a whole, and ours at what failed of a batch: some seconds.
_CALL_ATTEMPTS: Final = 3
_BATCH_ATTEMPTS: Final = 4
_BATCH_SECONDS: Final = 10.0
#: SQS needs one to be signed for, and another server ignores which.
_REGION_ELSEWHERE: Final = "us-east-1"

_ADVICE: Final = {
    "NonExistentQueue": "there is no such queue in this region; check its name, account and region",
    "QueueDoesNotExist": "there is no such queue in this region; check its name, account and region",
    "AccessDenied": (
        "denied; it takes sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility, sqs:GetQueueUrl"
    ),
}
#: What boto3 raises beside refusals. Of credentials and configurations, Python's own errors come through.
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
    """A queue's address: its URL; or only its name, in the region and account of the credentials.

    `endpoint_url` is another server than AWS; `region` is by default what boto3 finds.
    """

    queue: str
    url: str | None = None
    region: str | None = None
    endpoint_url: str | None = None

    @property
    def name(self) -> str:
        """The address for people and logs."""
        return f"sqs://{self.url.partition('://')[2] if self.url else self.queue}"


class _PartlyFailedError(Exception):
    """Some messages of a batch failed for a reason that may pass."""


class SqsSource:
    """The messages of one queue; a `source.MessageSource`. It connects at the first `receive`.

    With `answer_seconds` it waits no longer than that, and asks once; long polls then end early.
    """

    def __init__(self, address: SqsQueue, *, answer_seconds: float | None = None) -> None:
        self.name = address.name
        self._address = address
        self._answer_seconds = answer_seconds
        # The stubs that are installed describe S3 alone.
        self._client: Any = None
        self._url = address.url
        #: What the caller has, by receipt handle.
        self._out: dict[str, None] = {}

    def receive(self, limit: int, wait_seconds: float) -> Sequence[Message]:
        """Up to `limit` messages; waits for the first no longer than so many seconds, rounded to whole ones.

        Raises:
            SourceUnavailableError: SQS does not answer or refuses.
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
        """Delete messages whose work is taken over.

        Raises:
            SourceUnavailableError: Some could not be deleted, and will be delivered again.
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
            SourceUnavailableError: SQS does not answer; they come again after the visibility timeout.
        """
        # What fails for good is no longer ours: it has come back already.
        self._tell("change_message_visibility_batch", messages, VisibilityTimeout=0)

    def look(self) -> str:
        """Say how many messages wait, without receiving any: that would count against them.

        It takes sqs:GetQueueAttributes, which listening does not.

        Raises:
            SourceUnavailableError: SQS does not answer or refuses.
            LookDeniedError: It may not be looked at.
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
                    f"{self.name}: not checked, because that takes sqs:GetQueueAttributes; listening does not"
                ) from error
            raise
        return f"about {int(found['Attributes']['ApproximateNumberOfMessages']):,} waiting"

    def close(self) -> None:
        """Give back what was received and not acknowledged, and disconnect."""
        if self._client is not None:
            with suppress(SourceUnavailableError):
                self.give_back([Message(b"", receipt) for receipt in self._out])
            self._client.close()
            self._client = None

    def _sqs(self) -> Any:  # noqa: ANN401 - see `_client`
        if self._client is None:
            # A session of our own: boto3's shared one makes clients for one thread at a time.
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
        return self._client

    def _poll(self, limit: int, seconds: float) -> list[Message]:
        answer = self._sqs().receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=min(limit, MESSAGES_PER_CALL),
            WaitTimeSeconds=min(round(seconds), _LONGEST_POLL_SECONDS),
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        messages = [
            Message(
                entry["Body"].encode(),
                entry["ReceiptHandle"],
                int(entry["Attributes"]["ApproximateReceiveCount"]),
            )
            for entry in answer.get("Messages", [])
        ]
        self._out.update((cast("str", message.receipt), None) for message in messages)
        return messages

    def _tell(self, operation: str, messages: Sequence[Message], **each: object) -> list[str]:
        """Tell of each message, and say with which codes it failed for good."""
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
                    if any(not entry["SenderFault"] for entry in failed):
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
