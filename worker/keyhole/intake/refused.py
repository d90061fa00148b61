"""Refused messages: messages from the broker that no Celery task of this version can process.

A refused message becomes a dead letter, which includes its headers. So `keyhole dead retry` can put the
message back into its queue, for example after the operator has upgraded Keyhole to a version that can process
the message.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.jobs.queues import QUEUES

#: The longest accepted message, in bytes. The longest messages that Keyhole itself sends have about 6 MiB.
#: Such a message contains a thousand jobs as JSON. Each key has 1,024 characters, and each character is
#: written as an escape of six bytes.
LONGEST_MESSAGE: Final = 16 * 1024**2


class Refused(NamedTuple):
    """A message that no task can process.

    `headers` and `properties` are the headers and properties of the AMQP message, in the form in which kombu
    represents them.
    """

    queue: str
    body: bytes
    headers: Mapping[str, Any]  # the values may have any type
    properties: Mapping[str, Any]  # as above

    def letter(self, reason: str) -> Dead:
        """Return the dead letter for this message.

        If the message is too long, only its beginning is stored.
        """
        text = {
            "queue": self.queue,
            "headers": dict(self.headers),
            "properties": dict(self.properties),
            "body": self.body.decode("latin-1"),
        }
        body = json.dumps(text, default=repr).encode()
        return Dead.refused(body, self.queue, reason)

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Return the message in a dead letter.

        Raises:
            ValueError: The letter contains no message, or the message's queue does not exist in this version
                of Keyhole.
        """
        text = json.loads(body)
        if not isinstance(text, dict) or text.get("queue") not in QUEUES:
            raise ValueError("it does not come from one of Keyhole's queues")
        return cls(
            str(text["queue"]),
            str(text["body"]).encode("latin-1"),
            dict(text["headers"]),
            dict(text["properties"]),
        )


def why_invalid(headers: object, body: object) -> str | None:
    """Check a message before Celery decodes it, and return why it is invalid; `None` if it is valid.

    `body` is bytes or text, depending on the transport.
    """
    if not isinstance(headers, dict) or "task" not in headers:
        return "it has no header with the name of a task"
    if headers.get("compression"):
        return f"it is compressed ({headers['compression']!r}), but Keyhole never compresses messages"
    if not isinstance(body, bytes | str | memoryview | bytearray):
        return "it has no body"
    if len(body) > LONGEST_MESSAGE:
        return f"it has {len(body):,} bytes; Keyhole accepts at most {LONGEST_MESSAGE:,}"
    return _why_body_invalid(bytes(body) if isinstance(body, memoryview) else body)


def _why_body_invalid(body: bytes | bytearray | str) -> str | None:
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"its body is not JSON: {error}"
    arguments = isinstance(decoded, list) and len(decoded) == 3
    if not (arguments and isinstance(decoded[0], list) and isinstance(decoded[1], dict)):
        return "its body is not a list of arguments in Celery's format"
    return None


def keep(letters: DeadLetters, message: Refused, reason: str) -> None:
    """Store a refused message as a dead letter.

    Raises:
        redis.RedisError: Redis failed.
    """
    letters.add(message.letter(reason))
