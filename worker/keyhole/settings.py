"""Settings, from the environment: each is named `KEYHOLE_` and the field's name in capitals.

Only the edge reads them (`cli`, `app`, `api`); inside, values are passed.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

from platformdirs import user_data_path
from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from keyhole.intake.audits.prices import load_prices
from keyhole.intake.selection import Selection
from keyhole.jobs.signatures import read_keys
from keyhole.limits import Limits
from keyhole.masking import check_no_user, check_redis_or_broker
from keyhole.scan.rules import load_policy
from keyhole.scan.settings import ScanSettings
from keyhole.scan.sizes import Size
from keyhole.sources.allowed import AllowedBuckets
from keyhole.sources.endpoint import AddressingStyle, checked_endpoint
from keyhole.sources.meter import Budget
from keyhole.store.redis_url import redis_options

#: Schemes of the brokers other than Redis.
_OTHER_BROKERS: Final = {"amqp", "amqps", "sqs"}
Sink = Literal["redis", "tags"]
#: Names or globs, with commas between them in the environment.
Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """All of Keyhole's settings. Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="KEYHOLE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    broker_url: str | None = Field(
        default=None, description="Where jobs are queued; by default in KEYHOLE_REDIS_URL"
    )
    redis_url: str | None = Field(default=None, description="Where verdicts and the ledger of jobs are kept")
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("keyhole"),
        description="Where the embedded Valkey keeps its data",
    )

    s3_endpoint_url: str | None = Field(default=None, description="The URL of an S3 server other than AWS")
    s3_region: str | None = Field(default=None, description="The region; by default boto3 finds it")
    s3_addressing_style: AddressingStyle | None = Field(
        default=None,
        description="Where requests name the bucket: path, virtual (host) or auto; by default boto3 decides",
    )
    request_payer: Literal["requester"] | None = Field(
        default=None,
        description="requester: Keyhole's account pays for the requests, which some buckets require",
    )
    expected_bucket_owner: str | None = Field(
        default=None,
        pattern=r"^[0-9]{12}$",
        description="The AWS account that must own every bucket; S3 refuses the others",
    )

    buckets: Names = Field(
        default=(),
        description="The only buckets that Keyhole touches, such as uploads,images-*; by default all",
    )

    signing_key_file: Path | None = Field(
        default=None,
        description="A file with one or two keys; messages that no key in it has signed are refused",
    )

    sinks: Annotated[tuple[Sink, ...], NoDecode] = Field(
        default=("redis",), description="Where verdicts go: redis, tags, or redis,tags"
    )
    record_seconds: int = Field(
        default=0, ge=0, description="How long a verdict is kept in Redis; 0: forever"
    )
    stream_length: int = Field(default=100_000, ge=1, description="About how many verdicts the stream keeps")
    done_seconds: int = Field(
        default=86_400,
        ge=60,
        description="How long a finished job is remembered, so that it is not done again",
    )

    resend_seconds: int = Field(
        default=60,
        ge=1,
        description="How long a job may be silent before Keyhole checks whether the broker lost it",
    )

    soft_seconds: int | None = Field(
        default=None,
        ge=1,
        description="How long the work on a message may take; by default as long as the budgets allow",
    )
    hard_seconds: int | None = Field(
        default=None, ge=1, description="After how long its process is killed; by default a minute later"
    )
    visibility_seconds: int | None = Field(
        default=None,
        ge=1,
        description="After how long the broker delivers an unacknowledged message again; by default 1800",
    )

    undecided_seconds: int = Field(
        default=6 * 3600,
        ge=0,
        description="How long Keyhole retries an object that S3 or the network does not let it scan or tag",
    )

    audit_rate: float = Field(
        default=500.0,
        ge=0,
        description="The most requests per second that all audits together make to a bucket; 0: no limit",
    )
    audit_outstanding: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="The most batches of one audit that are queued or worked on at once",
    )
    audit_seconds: int = Field(
        default=90 * 86_400, ge=0, description="How long an audit is kept after its end; 0: forever"
    )
    prices: str | None = Field(
        default=None, description="A file with prices in dollars; by default those of S3 in us-east-1"
    )

    events_url: str | None = Field(
        default=None, description="The queue of events: sqs://…, amqp://…/queue or redis://…/key"
    )
    events_buckets: Names = Field(default=(), description="Only events of these buckets, such as a,b-*")
    events_include: Names = Field(
        default=(), description="Only events of these keys, such as *.img,uploads/*"
    )
    events_exclude: Names = Field(default=(), description="No events of these keys")
    events_suffixes: Names = Field(
        default=(), description="Only events of keys with these suffixes, such as .qcow2,.vmdk"
    )
    events_min_size: Size | None = Field(
        default=None, description="No events of smaller objects, such as 1MiB"
    )
    events_max_size: Size | None = Field(default=None, description="No events of larger objects")
    event_window_seconds: int = Field(
        default=300,
        ge=1,
        description="How long an event is remembered, so that a duplicate does not cause another scan",
    )
    dead_after: int = Field(
        default=3,
        ge=1,
        description="How often a message that is not understood is received before it is a dead letter",
    )

    policy: str = Field(
        default="default", description="What is accepted: the name of a profile, or a file of rules"
    )
    schedules: str | None = Field(default=None, description="A file of schedules, which start audits")

    head_bytes: int = Field(
        default=336 * 1024,
        ge=512,
        le=8 * 1024 * 1024,
        description="How much the first GET of an object reads",
    )
    gap_bytes: int = Field(
        default=1024 * 1024,
        ge=0,
        le=8 * 1024 * 1024,
        description="How near two ranges are at most to be read by one GET",
    )
    budget_requests: int = Field(default=32, ge=1, description="The most requests for one object")
    budget_bytes: int = Field(
        default=16 * 1024 * 1024, ge=512, description="The most bytes that are read from one object"
    )
    budget_seconds: float = Field(default=60.0, gt=0, le=300, description="The longest scan of one object")
    budget_cpu_seconds: float = Field(
        default=1.0, gt=0, le=300, description="The most CPU time that one object takes"
    )

    memory_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=24 * 1024 * 1024,
        # Half of the addresses that a confined process is given (`confinement.limits`).
        le=256 * 1024 * 1024,
        description="The most memory of a process for decoders and large maps, besides 2 MiB per thread",
    )
    scan_threads: int = Field(
        default=16, ge=1, le=256, description="How many objects of a batch are scanned at once"
    )
    batch_size: int = Field(
        default=100, ge=1, le=1000, description="How many objects are in one message of a bulk submit"
    )
    confine: Literal["auto", "off", "required"] = Field(
        default="auto",
        description="Whether the kernel confines scans: auto (as far as it can), off or required",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="How much a worker logs: debug, info, warning or error"
    )

    @field_validator(
        "buckets",
        "sinks",
        "events_buckets",
        "events_include",
        "events_exclude",
        "events_suffixes",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("sinks")
    @classmethod
    def _not_empty(cls, value: tuple[Sink, ...]) -> tuple[Sink, ...]:
        if not value:
            raise ValueError("names no sink; write redis, tags, or redis,tags")
        return value

    @field_validator("buckets", mode="before")
    @classmethod
    def _some(cls, value: object) -> object:
        if isinstance(value, str) and not any(part.strip() for part in value.split(",")):
            raise ValueError("names no bucket; write globs such as uploads,images-*, or unset it for all")
        return value

    @field_validator("s3_endpoint_url")
    @classmethod
    def _valid_endpoint(cls, value: str | None) -> str | None:
        return None if value is None else checked_endpoint(value)

    @field_validator("signing_key_file")
    @classmethod
    def _valid_keys(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_keys(value)
        return value

    @field_validator("broker_url", "redis_url", "s3_endpoint_url")
    @classmethod
    def _valid_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.field_name == "s3_endpoint_url":
            check_no_user(value)
        elif value is not None:
            check_redis_or_broker(value)
            scheme = value.partition(":")[0].lower()
            if info.field_name == "redis_url" or scheme not in _OTHER_BROKERS:
                redis_options(value)
            elif scheme != "sqs" and "?" in value:
                raise ValueError("it has options, which a URL of RabbitMQ has none of here; leave them out")
        return value

    @field_validator("policy")
    @classmethod
    def _valid_policy(cls, value: str) -> str:
        load_policy(value)
        return value

    @property
    def allowed_buckets(self) -> AllowedBuckets:
        """The buckets that Keyhole may touch."""
        return AllowedBuckets(self.buckets)

    @property
    def event_selection(self) -> Selection:
        """Which objects that events report are scanned."""
        return Selection(
            buckets=self.events_buckets,
            include=self.events_include,
            exclude=self.events_exclude,
            suffixes=self.events_suffixes,
            min_size=self.events_min_size,
            max_size=self.events_max_size,
        )

    @field_validator("prices")
    @classmethod
    def _valid_prices(cls, value: str | None) -> str | None:
        load_prices(value)
        return value

    @field_validator("schedules")
    @classmethod
    def _valid_schedules(cls, value: str | None) -> str | None:
        if value is not None:
            # Celery's parser of crontabs takes its time to import.
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

    @property
    def limits(self) -> Limits:
        """How long the work on a message may take."""
        return Limits.of(self.scan, self.soft_seconds, self.hard_seconds, self.visibility_seconds)

    @property
    def scan(self) -> ScanSettings:
        """How to read one object: sizes of reads, budgets and the policy."""
        budget = Budget(self.budget_requests, self.budget_bytes, self.budget_seconds, self.budget_cpu_seconds)
        return ScanSettings(self.head_bytes, self.gap_bytes, budget, load_policy(self.policy))
