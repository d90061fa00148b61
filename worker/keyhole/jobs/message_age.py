"""The age of a message: each message states in a header when it was sent."""

import json
from collections.abc import Mapping
from typing import Any, Final

#: The message header with the time at which the message was sent, in seconds since 1970.
SENT_AT: Final = "keyhole_sent_at"


def age_of(headers: Mapping[str, Any], now: float) -> float | None:  # headers have many types
    """Return how many seconds before `now` a message was sent; `None` if its headers do not state this."""
    try:
        return max(0.0, now - float(headers[SENT_AT]))
    except (ValueError, KeyError, TypeError):
        return None


def age_in_redis(item: bytes | None, now: float) -> float | None:
    """Return the age of a message that kombu has stored in Redis; `None` if the item is not a message."""
    try:
        headers = json.loads(item or b"")["headers"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return age_of(headers, now) if isinstance(headers, dict) else None
