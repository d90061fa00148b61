"""Messages of the broker that no task of this version can work on, as dead letters.

A refused message is stored with its headers, so that `keyhole dead retry` can put it back into its queue: a
later version may be able to work on it.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.jobs.queues import QUEUES

#: The longest message that is worked on, in bytes. The longest that Keyhole sends has a thousand jobs with
#: keys of 1,024 characters, some 6 MiB as JSON.
LONGEST_MESSAGE: Final = 16 * 1024**2


class Refused(NamedTuple):
    """A message that no task can work on. `headers` and `properties` are AMQP's, in kombu's form."""

    queue: str
    body: bytes
    headers: Mapping[str, Any]  # whatever the sender put there
    properties: Mapping[str, Any]  # as above

    def letter(self, reason: str) -> Dead:
        """The dead letter. If the message is too long, only its first part is kept (`dead_letters`)."""
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
        """Return the message of a dead letter.

        Raises:
            ValueError: The letter has no message, or its queue does not exist any longer.
        """
        text = json.loads(body)
        if not isinstance(text, dict) or text.get("queue") not in QUEUES:
            raise ValueError("it is not of a queue that is known")
        return cls(
            str(text["queue"]),
            str(text["body"]).encode("latin-1"),
            dict(text["headers"]),
            dict(text["properties"]),
        )


def why_invalid(headers: object, body: object) -> str | None:
    """Return why a message is invalid, before it is decoded; `None` if nothing is wrong so far.

    `body` is bytes or text, as the transport returns it.
    """
    if not isinstance(headers, dict) or "task" not in headers:
        return "it names no task"
    if headers.get("compression"):
        return f"it is compressed ({headers['compression']!r}), which Keyhole never does"
    if not isinstance(body, bytes | str | memoryview | bytearray):
        return "it has no body"
    if len(body) > LONGEST_MESSAGE:
        return f"it has {len(body):,} bytes; the longest that is worked on has {LONGEST_MESSAGE:,}"
    return _why_body_invalid(bytes(body) if isinstance(body, memoryview) else body)


def _why_body_invalid(body: bytes | bytearray | str) -> str | None:
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError) as error:
        return f"its body is not JSON: {error}"
    arguments = isinstance(decoded, list) and len(decoded) == 3
    if not (arguments and isinstance(decoded[0], list) and isinstance(decoded[1], dict)):
        return "its body is not a list of arguments, as Celery's messages have it"
    return None


def keep(letters: DeadLetters, message: Refused, reason: str) -> None:
    """Store a refused message as a dead letter. Errors of Redis surface as `redis.exceptions`."""
    letters.add(message.letter(reason))
