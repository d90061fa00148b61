"""The settings of the sinks, which are the places to which Keyhole writes verdicts."""

import re
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from keyhole.limits import MOST_SECONDS
from keyhole.masking import split_url
from keyhole.reasons import Status
from keyhole.settings.lists import split_list

Sink = Literal["redis", "tags", "sns", "eventbridge", "sqs", "webhook"]
#: Maps each sink of events to the setting that it needs.
_PLACES: Final = {
    "sns": "sns_topic",
    "eventbridge": "eventbridge_bus",
    "sqs": "sqs_queue",
    "webhook": "webhook_url",
}
_TOPIC: Final = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]{1,256}")
_BUS: Final = re.compile(r"(arn:aws[a-z-]*:events:[a-z0-9-]+:[0-9]{12}:event-bus/)?[A-Za-z0-9_./-]{1,256}")
_QUEUE_EXAMPLE: Final = "https://sqs.eu-central-1.amazonaws.com/123456789012/queue"
_WEBHOOK_EXAMPLE: Final = "https://host/path"


class SinkSettings(BaseModel):
    """The part of the settings that is about sinks."""

    sinks: tuple[Sink, ...] = Field(
        default=("redis",),
        description="Where Keyhole writes verdicts: any of redis, tags, sns, eventbridge, sqs, webhook",
    )
    notify_statuses: tuple[Status, ...] = Field(
        default=tuple(status for status in Status if status is not Status.SAFE),
        description="The statuses of the verdicts that sns, eventbridge, sqs and webhook receive",
    )
    sns_topic: str | None = Field(default=None, description="The ARN of the topic for the sink sns")
    eventbridge_bus: str | None = Field(
        default=None, description="The name or the ARN of the bus for the sink eventbridge"
    )
    sqs_queue: str | None = Field(default=None, description="The URL of the queue for the sink sqs")
    webhook_url: str | None = Field(
        default=None, description="The HTTPS URL for the sink webhook, such as https://host/path"
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="One or two secrets, such as whsec_…, with which webhooks are signed"
    )
    webhook_private: bool = Field(
        default=False,
        description="Whether the webhook may have an address that is not public, and a URL with http://",
    )
    record_seconds: int = Field(
        default=0, ge=0, le=MOST_SECONDS, description="How long Redis stores a verdict; 0: forever"
    )
    stream_length: int = Field(
        default=100_000,
        ge=1,
        le=10**12,  # Redis refuses much larger numbers
        description="The approximate number of verdicts that the stream of verdicts stores",
    )

    @field_validator("sinks", "notify_statuses", mode="before")
    @classmethod
    def _split_sinks(cls, value: object) -> object:
        return split_list(value)

    @field_validator("sinks")
    @classmethod
    def _not_empty(cls, value: tuple[Sink, ...]) -> tuple[Sink, ...]:
        if not value:
            raise ValueError("it names no sink; write redis, tags, or redis,tags")
        return value

    @field_validator("sns_topic")
    @classmethod
    def _valid_topic(cls, value: str | None) -> str | None:
        if value is not None and not _TOPIC.fullmatch(value):
            raise ValueError(
                "it is not the ARN of a topic; write arn:aws:sns:eu-central-1:123456789012:topic"
            )
        return value

    @field_validator("eventbridge_bus")
    @classmethod
    def _valid_bus(cls, value: str | None) -> str | None:
        if value is not None and not _BUS.fullmatch(value):
            raise ValueError("it is neither the name nor the ARN of an event bus; write default, for example")
        return value

    @field_validator("sqs_queue")
    @classmethod
    def _valid_queue(cls, value: str | None) -> str | None:
        if value is not None:
            parts = split_url(value, _QUEUE_EXAMPLE)
            names = parts.path.strip("/").split("/")
            odd = parts.username or parts.query or parts.fragment
            if parts.scheme not in {"https", "http"} or not parts.hostname or len(names) < 2 or odd:
                raise ValueError(f"it is not the URL of a queue; write {_QUEUE_EXAMPLE}")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _valid_webhook(cls, value: str | None) -> str | None:
        if value is not None:
            parts = split_url(value, _WEBHOOK_EXAMPLE)
            odd = parts.username or parts.fragment or not value.isascii()
            if parts.scheme not in {"https", "http"} or not parts.hostname or odd:
                raise ValueError(f"it is not the URL of a webhook; write {_WEBHOOK_EXAMPLE}")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _valid_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            from keyhole.results.sinks.signature import parse_secrets  # noqa: PLC0415 - only webhooks need it

            parse_secrets(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _every_sink_has_a_place(self) -> Self:
        for sink in self.event_sinks:
            if getattr(self, _PLACES[sink]) is None:
                raise ValueError(f"KEYHOLE_SINKS contains {sink}, so set KEYHOLE_{_PLACES[sink].upper()}")
        if "webhook" in self.sinks:
            if self.webhook_secret is None:
                from keyhole.results.sinks.signature import HOW  # noqa: PLC0415 - as above

                raise ValueError(f"KEYHOLE_SINKS contains webhook, so set KEYHOLE_WEBHOOK_SECRET; {HOW}")
            if urlsplit(str(self.webhook_url)).scheme == "http" and not self.webhook_private:
                raise ValueError(
                    "KEYHOLE_WEBHOOK_URL begins with http://, which KEYHOLE_WEBHOOK_PRIVATE=true must allow; "
                    "write https://"
                )
        return self

    @property
    def event_sinks(self) -> tuple[str, ...]:
        """The sinks that receive events about verdicts."""
        return tuple(sink for sink in _PLACES if sink in self.sinks)
