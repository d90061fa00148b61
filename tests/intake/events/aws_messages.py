"""Messages in AWS's form, for tests of their handling."""

import json
from typing import Any
from urllib.parse import quote_plus

#: A message that Keyhole cannot parse.
POISON = b'{"what": "is this"}'


def record(
    key: str = "a.qcow2", *, name: str = "ObjectCreated:Put", bucket: str = "images", **about: Any
) -> dict[str, Any]:
    """A record. `about` contains its facts about the object besides the key."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-05-01T12:00:00.000Z",
        "eventName": name,
        "s3": {
            "bucket": {"name": bucket},
            "object": {"key": quote_plus(key), "size": 1024, "eTag": "e", "sequencer": "0A", **about},
        },
    }


def message(*records: dict[str, Any]) -> bytes:
    """The body of a message with these records."""
    return json.dumps({"Records": records}).encode()
