"""The settings of the listener: which queue of events it reads, and to which events it listens."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, field_validator

from keyhole.limits import MOST_SECONDS
from keyhole.scan.sizes import Size
from keyhole.settings.lists import Names, split_list

if TYPE_CHECKING:
    from keyhole.intake.selection import Selection


class EventSettings(BaseModel):
    """The part of the settings that is about events."""

    events_url: str | None = Field(
        default=None, description="The queue of events: sqs://…, amqp://…/queue or redis://…/key"
    )
    events_buckets: Names = Field(
        default=(), description="Listen only to events of these buckets, such as a,b-*"
    )
    events_include: Names = Field(
        default=(), description="Listen only to events of these keys, such as *.img,uploads/*"
    )
    events_exclude: Names = Field(default=(), description="Ignore events of these keys")
    events_suffixes: Names = Field(
        default=(), description="Listen only to events of keys with these suffixes, such as .qcow2,.vmdk"
    )
    events_min_size: Size | None = Field(
        default=None, description="Ignore events of objects that are smaller than this, such as 1MiB"
    )
    events_max_size: Size | None = Field(
        default=None, description="Ignore events of objects that are larger than this"
    )
    event_window_seconds: int = Field(
        default=300,
        ge=1,
        le=MOST_SECONDS,
        description="How long Keyhole remembers an event, so that a duplicate does not cause a second scan",
    )
    dead_after: int = Field(
        default=3,
        ge=1,
        description="How often a message is received and not understood before it becomes a dead letter",
    )

    @field_validator("events_buckets", "events_include", "events_exclude", "events_suffixes", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return split_list(value)

    @property
    def event_selection(self) -> "Selection":
        """Which objects Keyhole scans when events report them."""
        from keyhole.intake.selection import Selection  # noqa: PLC0415 - only listeners need it

        return Selection(
            buckets=self.events_buckets,
            include=self.events_include,
            exclude=self.events_exclude,
            suffixes=self.events_suffixes,
            min_size=self.events_min_size,
            max_size=self.events_max_size,
        )
