"""Times in listings mean the same as in botocore."""

from datetime import UTC, datetime
from threading import current_thread, main_thread

import dateutil.parser
import pytest
from botocore.utils import parse_timestamp as by_botocore
from hypothesis import given
from hypothesis import strategies as st

from keyhole.sources.s3_access import S3Access
from keyhole.sources.timestamps import parse_timestamp


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001 - the tests convert it to UTC below
def test_any_time_in_any_of_its_forms(moment: datetime) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    for form in (
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
        moment.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        moment.isoformat(),
        moment.strftime("%Y%m%dT%H%M%SZ"),
    ):
        assert parse_timestamp(form) == by_botocore(form)


@pytest.mark.parametrize("value", [1_777_636_800, "1777636800", 1_777_636_800.5])
def test_a_number_is_seconds(value: object) -> None:
    assert parse_timestamp(value) == by_botocore(value)


@pytest.mark.parametrize("value", ["", "never", "2026-13-01T00:00:00Z", "TZ"])
def test_what_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        parse_timestamp(value)


def test_what_s3_lists_is_not_guessed_at(
    recorded_access: S3Access, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded_access.client.put_object(Bucket=bucket, Key="a", Body=b"")
    guess = dateutil.parser.parse
    guessed: list[object] = []

    def note(value: object, **options: object) -> object:
        # moto's threads also guess the format.
        if current_thread() is main_thread():
            guessed.append(value)
        return guess(value, **options)

    monkeypatch.setattr("dateutil.parser.parse", note)

    (listed,) = recorded_access.client.list_objects_v2(Bucket=bucket)["Contents"]

    assert listed["LastModified"].tzinfo is not None
    assert guessed == []
