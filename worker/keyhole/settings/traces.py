"""The setting that turns on traces. OpenTelemetry's own variables (`OTEL_*`) configure them."""

from pydantic import BaseModel, Field


class TracesSettings(BaseModel):
    """The part of the settings that is about traces."""

    traces: bool = Field(
        default=False,
        description="Whether to send traces to OpenTelemetry (variables `OTEL_…`); needs the extra otel",
    )
