"""Times as S3 writes them in its listings, parsed by Python itself: botocore's way takes most of a LIST.

botocore lets dateutil guess at every time it meets, 0.1 ms each, whatever form it has. Here the one form that
S3 uses in XML (ISO 8601 in UTC, `2026-05-01T12:00:00.000Z`) is recognised; all others are left to botocore.
"""

from datetime import datetime
from typing import Any

from botocore.utils import parse_timestamp as by_guessing


def parse_timestamp(value: Any) -> datetime:  # noqa: ANN401 - text or a number, as botocore finds it
    """What `botocore.utils.parse_timestamp` makes of a value, sooner.

    Raises:
        ValueError: It is no time.
    """
    if isinstance(value, str) and value.endswith("Z") and "T" in value:
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    parsed: datetime = by_guessing(value)
    return parsed
