"""Schedules: a TOML file defines which audits Keyhole starts automatically, and when.

    [[schedules]]
    name = "nightly"               # letters, digits, - _ .
    bucket = "images"
    prefix = "uploads/"
    crontab = "15 3 * * *"         # minute, hour, day of the month, month, day of the week; in UTC

    [[schedules]]
    name = "incoming"
    bucket = "incoming"
    every = "6h"                   # or 90s, 15m, 1d
    suffix = [".qcow2", ".vmdk"]
    sample = "1%"

A schedule has the same options as the command `keyhole audit`. Times are in UTC, because in a local time
zone, one hour is missing or occurs twice when the clock changes.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.recurrence import Crontab, Interval, parse_crontab, parse_interval
from keyhole.intake.selection import Selection, parse_share
from keyhole.results.owner import parse_owner_tag
from keyhole.scan.sizes import Size
from keyhole.sources.s3_uri import parse_s3_uri
from keyhole.toml_files import FileError, parse, read_text

#: An error message quotes at most this many characters of a value.
_QUOTED: Final = 60


def _crontab(text: str) -> str:
    return parse_crontab(text).text


def _every(text: str) -> str:
    return parse_interval(text).text


def _bucket(text: str) -> str:
    if text.startswith("s3://"):
        raise ValueError(f"{text[:_QUOTED]!r} is a URI; write only the bucket's name, and the rest as prefix")
    return text


def _inventory(text: str) -> str:
    if not parse_s3_uri(text)[1]:
        raise ValueError(f"{text[:_QUOTED]!r} is a bucket; write the s3:// URI of a manifest.json")
    return text


def _one_or_many(value: object) -> object:
    """Convert a single text to a tuple with one element, and a list to a tuple."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, str) else value


def _share(value: object) -> object:
    return parse_share(value) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]
Share = Annotated[float, BeforeValidator(_share), Field(gt=0, le=1)]


class Schedule(BaseModel):
    """A schedule in the file.

    Error messages contain the description of a field: "crontab is missing; write DESCRIPTION".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,64}$", description="a unique name of up to 64 letters, digits, - _ ."
    )
    bucket: Annotated[str, AfterValidator(_bucket)] = Field(
        min_length=1, max_length=2048, description="the name of a bucket"
    )
    prefix: str = Field(default="", max_length=1024, description="the prefix of the keys, such as uploads/")
    crontab: Annotated[str, AfterValidator(_crontab)] | None = Field(
        default=None, description="five fields, such as '15 3 * * *'"
    )
    every: Annotated[str, AfterValidator(_every)] | None = Field(
        default=None, description="an interval, such as '15m', '6h' or '1d'"
    )
    include: Texts = Field(default=(), description="a list of globs, such as ['*.qcow2']")
    exclude: Texts = Field(default=(), description="a list of globs, such as ['tmp/*']")
    suffix: Texts = Field(default=(), description="a list of suffixes, such as ['.qcow2']")
    min_size: Size | None = Field(default=None, description="a number of bytes, or a size such as '1 MiB'")
    max_size: Size | None = Field(default=None, description="a number of bytes, or a size such as '1 TiB'")
    sample: Share = Field(default=1.0, description="a share of the keys, such as '1%'")
    limit: int | None = Field(default=None, ge=1, description="a number of objects, 1 or more")
    full: bool = Field(default=False, description="true or false")
    versions: bool = Field(default=False, description="true or false")
    check_tags: bool = Field(default=False, description="true or false")
    fix_tags: bool = Field(default=False, description="true or false")
    owner_tag: Annotated[str, AfterValidator(parse_owner_tag)] | None = Field(
        default=None, description="the name of a tag, such as 'team'"
    )
    inventory: Annotated[str, AfterValidator(_inventory)] | None = Field(
        default=None, description="the s3:// URI of a manifest.json"
    )
    rate: float | None = Field(
        default=None, ge=0, description="the most requests per second to the bucket; 0 for no limit"
    )
    max_requests: int | None = Field(default=None, ge=1, description="a number of requests, 1 or more")
    max_dollars: float | None = Field(default=None, gt=0, description="an amount, such as 2.5")

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if (self.crontab is None) == (self.every is None):
            has = "neither crontab nor every" if self.crontab is None else "both crontab and every"
            raise ValueError(f"it has {has}; write one of them: crontab = '15 3 * * *', or every = '6h'")
        return self

    @property
    def when(self) -> Crontab | Interval:
        """The crontab or the interval that states when the schedule starts an audit."""
        return Interval(self.every) if self.crontab is None and self.every else Crontab(str(self.crontab))

    def spec(self, *, rate: float, outstanding: int, batch_size: int) -> AuditSpec:
        """Return the audit that the schedule starts.

        Args:
            rate: The maximum number of requests per second, if the schedule does not set `rate`.
            outstanding: The maximum number of batches that are queued or in progress at the same time.
            batch_size: The maximum number of objects in a batch.
        """
        return AuditSpec(
            bucket=self.bucket,
            prefix=self.prefix,
            selection=Selection(
                include=self.include,
                exclude=self.exclude,
                suffixes=self.suffix,
                min_size=self.min_size,
                max_size=self.max_size,
                sample=self.sample,
            ),
            limit=self.limit,
            full=self.full,
            versions=self.versions,
            check_tags=self.check_tags,
            fix_tags=self.fix_tags,
            owner_tag=self.owner_tag,
            inventory=self.inventory,
            max_requests=self.max_requests,
            max_dollars=self.max_dollars,
            rate=rate if self.rate is None else self.rate,
            outstanding=outstanding,
            batch_size=batch_size,
            schedule=self.name,
        )


def load_schedules(path: str) -> tuple[Schedule, ...]:
    """Return the schedules in a file.

    Raises:
        FileError: The file cannot be read, or is not valid.
    """
    return parse_schedules(read_text(path, "is not a file of schedules that can be read"), path)


def parse_schedules(text: str, where: str) -> tuple[Schedule, ...]:
    """Return the schedules in a text. `where` is the name of the text in error messages.

    Raises:
        FileError: The text is not valid.
    """
    written = parse(text, where)
    entries = written.pop("schedules", None)
    if written:
        raise FileError(f"{where}: {min(written)} is outside of a schedule; write [[schedules]] above it")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise FileError(f"{where} has no schedules; write [[schedules]], and name, bucket and crontab below")
    found = tuple(_schedule(entry, number, where) for number, entry in enumerate(entries, start=1))
    names = [schedule.name for schedule in found]
    for name in names:
        if names.count(name) > 1:
            raise FileError(f"{where}: {name}: two schedules have this name; rename one of them")
    return found


def _schedule(entry: Mapping[str, Any], number: int, where: str) -> Schedule:  # a value can have any type
    try:
        return Schedule.model_validate(entry)
    except ValidationError as error:
        name = entry.get("name")
        called = name[:_QUOTED] if isinstance(name, str) and name else f"schedule {number}"
        raise FileError(f"{where}: {called}: {_problem(error)}") from None


def _problem(error: ValidationError) -> str:
    """Return a message about the first error: the name of the field, and what to write."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    field = str(first["loc"][0])
    if first["type"] == "value_error":
        return f"{field}: {message}"
    if field in {"timezone", "tz"}:
        return f"{field}: all times are in UTC; remove this line, and convert the time to UTC"
    if first["type"] == "extra_forbidden":
        return f"{field} is not a field of a schedule; the fields are {', '.join(Schedule.model_fields)}"
    wanted = Schedule.model_fields[field].description
    if first["type"] == "missing":
        return f"{field} is missing; write {wanted}"
    return f"{field} is {repr(first['input'])[:_QUOTED]}; write {wanted}"
