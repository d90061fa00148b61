"""The settings of the page of metrics for Prometheus."""

from pydantic import BaseModel, Field


class MetricsSettings(BaseModel):
    """The part of the settings that is about metrics."""

    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="The port at which workers, listeners and schedulers serve metrics; by default none",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The address at which metrics are served; 0.0.0.0: all addresses of the host",
    )
