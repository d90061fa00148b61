"""The settings of the servers that Keyhole uses: Redis, the broker and S3."""

from pathlib import Path
from typing import Final, Literal

from platformdirs import user_data_path
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from keyhole.masking import check_no_user, check_redis_or_broker
from keyhole.settings.lists import Names, split_list
from keyhole.sources.allowed import AllowedBuckets
from keyhole.sources.endpoint import AddressingStyle, checked_endpoint
from keyhole.store.redis_url import redis_options

#: The URL schemes of brokers other than Redis.
_OTHER_BROKERS: Final = {"amqp", "amqps", "sqs"}


class ServerSettings(BaseModel):
    """The part of the settings that is about servers."""

    broker_url: str | None = Field(
        default=None, description="The URL of the broker, which queues jobs; by default KEYHOLE_REDIS_URL"
    )
    redis_url: str | None = Field(
        default=None, description="The URL of the Redis that stores verdicts and the ledger of jobs"
    )
    data_dir: Path = Field(
        default_factory=lambda: user_data_path("keyhole"),
        description="The folder in which the embedded Valkey stores its data",
    )

    s3_endpoint_url: str | None = Field(default=None, description="The URL of an S3 server other than AWS")
    s3_region: str | None = Field(default=None, description="The S3 region; by default boto3 determines it")
    s3_addressing_style: AddressingStyle | None = Field(
        default=None,
        description="How requests name the bucket: path, virtual (host) or auto; by default boto3 decides",
    )
    request_payer: Literal["requester"] | None = Field(
        default=None,
        description="requester: Keyhole's account pays for the requests; some buckets require this",
    )
    expected_bucket_owner: str | None = Field(
        default=None,
        pattern=r"^[0-9]{12}$",
        description="The AWS account that must own every bucket; S3 refuses requests to other buckets",
    )

    buckets: Names = Field(
        default=(),
        description="The only buckets that Keyhole accesses, such as uploads,images-*; by default all",
    )

    https_private: bool = Field(
        default=False,
        description="Whether https:// URLs may have private addresses or use a proxy; also allows http://",
    )

    signing_key_file: Path | None = Field(
        default=None,
        description="A file with one or two keys; workers refuse messages not signed with one of them",
    )

    @field_validator("buckets", mode="before")
    @classmethod
    def _some(cls, value: object) -> object:
        names = split_list(value)
        if isinstance(value, str) and not names:
            raise ValueError("it names no bucket; write globs such as uploads,images-*, or unset it for all")
        return names

    @field_validator("s3_endpoint_url")
    @classmethod
    def _valid_endpoint(cls, value: str | None) -> str | None:
        return None if value is None else checked_endpoint(value)

    @field_validator("signing_key_file")
    @classmethod
    def _valid_keys(cls, value: Path | None) -> Path | None:
        if value is not None:
            from keyhole.jobs.signatures import read_keys  # noqa: PLC0415 - most commands need no keys

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
                raise ValueError("it has options, but Keyhole accepts none in a URL of RabbitMQ; remove them")
        return value

    @property
    def allowed_buckets(self) -> AllowedBuckets:
        """The buckets that Keyhole may access."""
        return AllowedBuckets(self.buckets)
