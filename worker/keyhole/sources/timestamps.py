"""Parses the times in S3's listings faster than botocore, which spends most of a LIST's time on them.

For every time, botocore lets dateutil guess the format, which takes 0.1 ms. This module recognises the format
that S3's XML always uses (ISO 8601 in UTC, `2026-05-01T12:00:00.000Z`), and passes all other formats to
botocore.
"""

from datetime import datetime
from typing import Any

from botocore.utils import parse_timestamp as by_guessing


def parse_timestamp(value: Any) -> datetime:  # noqa: ANN401 - text or a number, as botocore finds it
    """Return the same result as `botocore.utils.parse_timestamp`, but faster.

    Raises:
        ValueError: The value is not a time.
    """
    if isinstance(value, str) and value.endswith("Z") and "T" in value:
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    parsed: datetime = by_guessing(value)
    return parsed
