"""A file of schedules: its allowed content, the audits that it begins, and one-line errors."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.recurrence import Crontab, Interval
from keyhole.intake.schedules import Schedule, _schedule, load_schedules, parse_schedules
from keyhole.intake.selection import Selection
from keyhole.toml_files import FileError

LEAST = '[[schedules]]\nname = "nightly"\nbucket = "images"\n'
WHOLE = (
    LEAST
    + """
prefix = "uploads/"
crontab = "15 3 * * *"
include = ["*.img", "*.qcow2"]
exclude = "tmp/*"
suffix = [".img"]
min_size = "1 MiB"
max_size = 1_000_000
sample = "1%"
limit = 10
full = true
versions = true
check_tags = true
fix_tags = true
owner_tag = "team"
inventory = "s3://lists/images/2026-05-01T01-00Z/manifest.json"
rate = 7
max_requests = 100
max_dollars = 2.5
"""
)
#: The values of settings, which apply if a schedule sets none.
SETTINGS = {"rate": 500.0, "outstanding": 8, "batch_size": 100}


def one(text: str) -> Schedule:
    (schedule,) = parse_schedules(text, "file")
    return schedule


def problem(text: str) -> str:
    """The error in a file."""
    with pytest.raises(FileError) as caught:
        parse_schedules(text, "file")
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("file")
    return message.removeprefix("file").removeprefix(": ")


class TestWhatIsTaken:
    def test_the_least(self) -> None:
        schedule = one(LEAST + 'every = "6h"')

        assert schedule.when == Interval("6h")
        assert schedule.spec(**SETTINGS) == AuditSpec(bucket="images", schedule="nightly", **SETTINGS)

    def test_all_that_an_audit_can_be_asked(self) -> None:
        schedule = one(WHOLE)

        assert schedule.when == Crontab("15 3 * * *")
        assert schedule.spec(**SETTINGS) == AuditSpec(
            bucket="images",
            prefix="uploads/",
            selection=Selection(
                include=("*.img", "*.qcow2"),
                exclude=("tmp/*",),
                suffixes=(".img",),
                min_size=1024**2,
                max_size=1_000_000,
                sample=0.01,
            ),
            limit=10,
            full=True,
            versions=True,
            check_tags=True,
            fix_tags=True,
            owner_tag="team",
            inventory="s3://lists/images/2026-05-01T01-00Z/manifest.json",
            max_requests=100,
            max_dollars=2.5,
            rate=7,
            outstanding=8,
            batch_size=100,
            schedule="nightly",
        )

    def test_a_rate_of_zero_is_none_and_not_that_of_the_settings(self) -> None:
        assert one(LEAST + 'every = "6h"\nrate = 0').spec(**SETTINGS).rate == 0

    def test_a_crontab_is_kept_as_redbeat_and_people_read_it(self) -> None:
        assert one(LEAST + 'crontab = " 15  3 * * MON "').crontab == "15 3 * * mon"

    def test_many_in_their_order(self) -> None:
        text = "".join(LEAST.replace("nightly", name) + 'every = "1d"\n' for name in ("b", "a.2", "C_-"))

        assert [schedule.name for schedule in parse_schedules(text, "file")] == ["b", "a.2", "C_-"]

    def test_an_access_point_is_a_bucket(self) -> None:
        arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/images"

        assert one(LEAST.replace("images", arn) + 'every = "1d"').bucket == arn


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", "neither crontab nor every; write one"),
            ('every = "6h"\ncrontab = "15 3 * * *"', "both crontab and every; write one"),
            ('crontab = "61 * * * *"', "crontab: '61' is not a valid minute; write *, 0 to 59"),
            ('every = "30s"', "every: 30s is shorter than 60s"),
            ("every = 21600", "every is 21600; write an interval, such as '15m'"),
            (
                'every = "6h"\nprefixes = "a/"',
                "prefixes is not a field of a schedule; the fields are name, bucket,",
            ),
            ('every = "6h"\ntimezone = "Europe/Berlin"', "timezone: all times are in UTC"),
            ('every = "6h"\ninclude = [1]', "include is 1; write a list of globs"),
            ('every = "6h"\nsuffix = 1', "suffix is 1; write a list of suffixes"),
            ('every = "6h"\nmin_size = "1 MB"', "min_size: '1 MB' is not a size; write"),
            ('every = "6h"\nmax_size = -1', "max_size is -1; write a number of bytes"),
            ('every = "6h"\nsample = "0%"', "sample: '0%' is not a share; write"),
            ('every = "6h"\nsample = 2', "sample is 2; write a share of the keys"),
            ('every = "6h"\nsample = nan', "sample is nan; write a share"),
            ('every = "6h"\nlimit = 0', "limit is 0; write a number of objects, 1 or more"),
            ('every = "6h"\nlimit = true', "limit is True; write a number of objects"),
            ('every = "6h"\nlimit = "10"', "limit is '10'; write a number of objects"),
            ('every = "6h"\nfull = "yes"', "full is 'yes'; write true or false"),
            ('every = "6h"\nversions = 1', "versions is 1; write true or false"),
            ('every = "6h"\ncheck_tags = 2026-05-01', "write true or false"),
            ('every = "6h"\nowner_tag = 7', "write the name of a tag, such as 'team'"),
            (
                'every = "6h"\nowner_tag = "keyhole-status"',
                "owner_tag: keyhole-status is one of",
            ),
            (
                'every = "6h"\ninventory = "manifest.json"',
                "inventory: 'manifest.json' is not an S3 object; write",
            ),
            ('every = "6h"\ninventory = "s3://lists"', "inventory: 's3://lists' is a bucket; write"),
            ('every = "6h"\nrate = -1', "rate is -1; write the most requests per second"),
            ('every = "6h"\nrate = inf', "rate is inf; write the most requests per second"),
            ('every = "6h"\nmax_requests = 0', "max_requests is 0; write a number of requests"),
            ('every = "6h"\nmax_dollars = 0', "max_dollars is 0; write an amount"),
            ('every = "6h"\nmax_dollars = inf', "max_dollars is inf; write an amount"),
            ('every = "6h"\nprefix = 1', "prefix is 1; write the prefix of the keys"),
        ],
    )
    def test_it_is_told_with_the_schedule_the_field_and_what_to_write(self, text: str, told: str) -> None:
        message = problem(LEAST + text)

        assert message.startswith("nightly: ")
        assert told in message

    @pytest.mark.parametrize(
        "name", ['""', '"a b"', '"a:b"', '"a/b"', '"a\\n"', '"ü"', f'"{"a" * 65}"', "1", "[]"]
    )
    def test_a_name_that_is_none(self, name: str) -> None:
        message = problem(LEAST.replace('"nightly"', name) + 'every = "6h"')

        assert "name is " in message
        assert "write a unique name of up to 64 letters, digits, - _ ." in message

    def test_without_a_name_it_is_counted(self) -> None:
        text = LEAST + 'every = "6h"\n[[schedules]]\nbucket = "images"\nevery = "6h"'

        assert problem(text).startswith("schedule 2: name is missing; write")

    @pytest.mark.parametrize(
        ("bucket", "told"),
        [
            ('""', "bucket is ''; write the name of a bucket"),
            ("1", "bucket is 1; write the name of a bucket"),
            (
                '"s3://images/uploads/"',
                "bucket: 's3://images/uploads/' is a URI; write only the bucket's name",
            ),
        ],
    )
    def test_a_bucket_that_is_none(self, bucket: str, told: str) -> None:
        assert told in problem(LEAST.replace('"images"', bucket) + 'every = "6h"')

    def test_two_of_a_name(self) -> None:
        assert problem((LEAST + 'every = "6h"\n') * 2) == (
            "nightly: two schedules have this name; rename one of them"
        )

    @pytest.mark.parametrize(
        "text", ["", "schedules = []", "schedules = 1", "schedules = [1]", "[schedules]\na = 1"]
    )
    def test_a_file_without_schedules(self, text: str) -> None:
        assert "has no schedules; write [[schedules]]" in problem(text)

    def test_what_stands_above_the_first(self) -> None:
        assert problem('name = "nightly"\n') == "name is outside of a schedule; write [[schedules]] above it"

    @pytest.mark.parametrize("text", ["[[schedules]", "a = ", "x = " + "[" * 5000, LEAST + 'name = "again"'])
    def test_what_is_no_toml(self, text: str) -> None:
        assert "is not TOML" in problem(text)

    def test_a_long_value_is_cut(self) -> None:
        assert len(problem(LEAST + f'every = "{"6" * 100_000}"')) < 200


class TestFiles:
    def test_it_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "schedules.toml"
        path.write_text(WHOLE)

        assert load_schedules(str(path)) == parse_schedules(WHOLE, str(path))

    @pytest.mark.parametrize("name", ["nowhere.toml", "", "a\0b", "binary"])
    def test_what_cannot_be_read(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "binary").write_bytes(b"\xff\xfe")

        with pytest.raises(FileError, match="not a file of schedules that can be read") as caught:
            load_schedules(str(tmp_path / name))

        assert str(caught.value).isprintable()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(Schedule.model_fields)), VALUES)
def test_whatever_is_written_is_taken_or_told_in_one_line(field: str, value: object) -> None:
    """A value of any TOML type, for any field."""
    entry = {"name": "nightly", "bucket": "images", "every": "6h"} | {field: value}
    try:
        schedule = _schedule(entry, 1, "file")
    except FileError as error:
        told = str(error)
    else:
        told = "taken"
        AuditSpec.model_validate_json(schedule.spec(**SETTINGS).model_dump_json())
    assert told.isprintable()
