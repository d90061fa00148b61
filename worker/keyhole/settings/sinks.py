"""The settings of the sinks, which are the places to which Keyhole writes verdicts."""

from typing import Literal

from pydantic import BaseModel, Field, field_validator

from keyhole.settings.lists import split_list

Sink = Literal["redis", "tags"]


class SinkSettings(BaseModel):
    """The part of the settings that is about sinks."""

    sinks: tuple[Sink, ...] = Field(
        default=("redis",), description="Where Keyhole writes verdicts: redis, tags, or redis,tags"
    )
    record_seconds: int = Field(default=0, ge=0, description="How long Redis stores a verdict; 0: forever")
    stream_length: int = Field(
        default=100_000,
        ge=1,
        description="The approximate number of verdicts that the stream of verdicts stores",
    )

    @field_validator("sinks", mode="before")
    @classmethod
    def _split_sinks(cls, value: object) -> object:
        return split_list(value)

    @field_validator("sinks")
    @classmethod
    def _not_empty(cls, value: tuple[Sink, ...]) -> tuple[Sink, ...]:
        if not value:
            raise ValueError("it names no sink; write redis, tags, or redis,tags")
        return value
