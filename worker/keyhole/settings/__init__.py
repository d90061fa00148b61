"""The settings, which come from environment variables.

The variable of a setting is named `KEYHOLE_` followed by the field's name in capitals. `cli`, `app`, `api`
and `fleet.services` create the settings; they pass settings or single values to all other modules. The
modules of this package each contain the settings of one subject. `Settings` inherits them and adds the rest.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from keyhole.limits import FASTEST_RATE, MOST_SECONDS, SLOWEST_RATE, Limits
from keyhole.masking import masked_url
from keyhole.scan.rules import settled_policy
from keyhole.scan.settings import ScanSettings
from keyhole.settings.events import EventSettings
from keyhole.settings.metrics import MetricsSettings
from keyhole.settings.servers import ServerSettings
from keyhole.settings.sinks import SinkSettings
from keyhole.settings.traces import TracesSettings
from keyhole.settings.unknown import check_arguments, check_environment
from keyhole.sources.meter import Budget


# The table of settings in the reference lists the settings of the last base class first.
class Settings(TracesSettings, MetricsSettings, EventSettings, SinkSettings, ServerSettings):
    """All settings of Keyhole. Sizes are in bytes, times in seconds.

    A value that the caller passes replaces the value of the environment variable. Names that are not settings
    are errors; see `keyhole.settings.unknown`.

    >>> from keyhole import Settings
    >>> Settings(budget_seconds=10).budget_seconds
    10.0

    Raises:
        pydantic.ValidationError: A value is not valid, or a name is not a setting. It is a `ValueError`.
    """

    # The message of an error would contain the passed values, and some of them are passwords.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    done_seconds: int = Field(
        default=86_400,
        ge=60,
        le=MOST_SECONDS,
        description="How long Keyhole remembers a finished job, so that it does not do the job again",
    )

    resend_seconds: int = Field(
        default=60,
        ge=1,
        le=MOST_SECONDS,
        description="How long a job may show no progress before Keyhole checks whether the broker lost it",
    )

    soft_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MOST_SECONDS,
        description="The soft time limit for the work on a message; by default derived from the budgets",
    )
    hard_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MOST_SECONDS,
        description="The time limit after which the process is killed; by default the soft limit plus 60",
    )
    visibility_seconds: int | None = Field(
        default=None,
        ge=1,
        le=MOST_SECONDS,
        description="Visibility timeout: seconds until an unacknowledged message is resent; by default 1800",
    )

    undecided_seconds: int = Field(
        default=6 * 3600,
        ge=0,
        le=MOST_SECONDS,
        description="How long Keyhole retries a scan, tags or an event when S3, a sink or the network fails",
    )

    audit_rate: float = Field(
        default=500.0,
        ge=0,
        allow_inf_nan=False,
        description="The most requests per second that all audits of a bucket make together; 0: no limit",
    )
    audit_outstanding: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="The most batches of one audit that are queued or in progress at the same time",
    )
    audit_seconds: int = Field(
        default=90 * 86_400,
        ge=0,
        le=MOST_SECONDS,
        description="How long Redis stores an audit after its end; 0: forever",
    )
    prices: str | None = Field(
        default=None, description="A file with prices in dollars; by default the prices of S3 in us-east-1"
    )

    policy: str = Field(
        default="default", description="Which images are accepted: the name of a profile, or a policy file"
    )
    schedules: str | None = Field(default=None, description="A file with schedules for audits")

    dashboard_token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="The token with which users of the dashboard log in, at least 16 characters",
    )

    head_bytes: int = Field(
        default=336 * 1024,
        ge=512,
        le=8 * 1024 * 1024,
        description="How many bytes the first GET of an object reads",
    )
    gap_bytes: int = Field(
        default=256 * 1024,
        ge=0,
        le=8 * 1024 * 1024,
        description="Two ranges with at most this many bytes between them are read by one GET",
    )
    budget_requests: int = Field(default=32, ge=1, description="The most requests for one object")
    budget_bytes: int = Field(
        default=16 * 1024 * 1024, ge=512, description="The most bytes that are read from one object"
    )
    budget_seconds: float = Field(
        default=60.0, gt=0, le=300, description="The longest time for the scan of one object"
    )
    budget_cpu_seconds: float = Field(
        default=1.0, gt=0, le=300, description="The most CPU time for the scan of one object"
    )

    memory_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=24 * 1024 * 1024,
        # This is half of the reserve that `confinement.limits` adds to the address space of a confined
        # process.
        le=256 * 1024 * 1024,
        description="The most memory of a process for decoders and large maps, not counting 2 MiB a scan",
    )
    scan_threads: int = Field(
        default=16, ge=1, le=256, description="How many objects of a batch a process scans at the same time"
    )
    batch_size: int = Field(
        default=100, ge=1, le=1000, description="The most objects in one message when many are submitted"
    )
    confine: Literal["auto", "off", "required"] = Field(
        default="auto",
        description="Whether the kernel restricts scanning processes: auto (if possible), off or required",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="How much workers, listeners and schedulers log: debug, info, warning or error",
    )

    # The package pydantic-settings also reads environment variables, but importing it takes a tenth of a
    # second of CPU time.
    @model_validator(mode="before")
    @classmethod
    def _with_environment(cls, passed: Mapping[str, object]) -> Mapping[str, object]:
        """Add the values of the environment variables that are not empty.

        Raises:
            ValueError: There is no setting with the name of an argument, or with a name that resembles it.
        """
        check_arguments(passed, cls.model_fields)
        variables = {name.lower(): value for name, value in os.environ.items() if value}
        check_environment(variables, cls.model_fields)
        names = {f"keyhole_{field}": field for field in cls.model_fields}
        return {field: variables[name] for name, field in names.items() if name in variables} | dict(passed)

    @field_validator("policy")
    @classmethod
    def _valid_policy(cls, value: str) -> str:
        settled_policy(value)
        return value

    @field_validator("audit_rate")
    @classmethod
    def _valid_rate(cls, value: float) -> float:
        if value and not SLOWEST_RATE <= value <= FASTEST_RATE:
            raise ValueError(f"write 0, or requests per second from {SLOWEST_RATE:g} to {FASTEST_RATE:.0f}")
        return value

    @field_validator("prices")
    @classmethod
    def _valid_prices(cls, value: str | None) -> str | None:
        if value is not None:
            from keyhole.intake.audits.prices import load_prices  # noqa: PLC0415 - only audits need prices

            load_prices(value)
        return value

    @field_validator("schedules")
    @classmethod
    def _valid_schedules(cls, value: str | None) -> str | None:
        if value is not None:
            # Import this module only if a file is set, because Celery's parser of crontabs is slow to import.
            from keyhole.intake.schedules import load_schedules  # noqa: PLC0415

            load_schedules(value)
        return value

    @model_validator(mode="after")
    def _limits_hold_together(self) -> "Settings":
        contradiction = self.limits.contradiction(
            done=self.done_seconds,
            undecided=self.undecided_seconds,
            resend=self.resend_seconds,
            by_rabbitmq=(self.broker_url or "").startswith("amqp"),
        )
        if contradiction is not None:
            raise ValueError(contradiction)
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """Yield the names and values for `repr` and `str`. The URLs contain no password."""
        for name, value in super().__repr_args__():
            is_url = name is not None and name.endswith("_url") and isinstance(value, str)
            yield name, masked_url(value) if is_url else value

    @property
    def limits(self) -> Limits:
        """The time limits for the work on a message."""
        return Limits.of(self.scan, self.soft_seconds, self.hard_seconds, self.visibility_seconds)

    @property
    def scan(self) -> ScanSettings:
        """The settings for the scan of one object: the sizes of reads, the budgets and the policy."""
        budget = Budget(self.budget_requests, self.budget_bytes, self.budget_seconds, self.budget_cpu_seconds)
        return ScanSettings(self.head_bytes, self.gap_bytes, budget, settled_policy(self.policy))
