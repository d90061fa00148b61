"""Errors that a command ends with: one line that says what to do, and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from pydantic import ValidationError
from redis.exceptions import ClusterCrossSlotError, ClusterError, MovedError

from keyhole.cli.redis_trouble import redis_trouble
from keyhole.embedded.valkey import EmbeddedError
from keyhole.masking import masked, masked_url
from keyhole.results.record import CorruptRecordError
from keyhole.settings import Settings
from keyhole.sources.allowed import BucketNotAllowedError
from keyhole.sources.errors import SourceError

#: Exit codes.
ALL_SAFE, SOME_NOT_SAFE, USAGE, UNDECIDED = 0, 1, 2, 3
#: Of a worker that ended though nobody told it to (`EX_SOFTWARE` of sysexits.h).
ENDED_BY_ITSELF = 70
#: As shells number an end by Ctrl-C.
INTERRUPTED = 130


class CommandError(Exception):
    """A command cannot go on; the message is one line."""

    def __init__(self, message: str, exit_code: int = UNDECIDED) -> None:
        super().__init__(masked(message))
        self.exit_code = exit_code


def load_settings(*, policy: str | None = None) -> Settings:
    """The settings from the environment, but for the policy where another is named.

    Raises:
        CommandError: One of them is wrong; the message names it.
    """
    try:
        return Settings() if policy is None else Settings(policy=policy)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # it is about several
            raise CommandError(message, USAGE) from None
        field = str(first["loc"][0])
        name = "--policy" if policy is not None and field == "policy" else f"KEYHOLE_{field.upper()}"
        value = masked_url(str(first["input"])) if field.endswith("_url") else repr(first["input"])
        raise CommandError(f"{name} is set to {value}: {message}", USAGE) from None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what Redis, the broker, S3 or the embedded Valkey say into one line that says what to do."""
    # Imported here: commands without a broker don't load it.
    from amqp import AMQPError  # type: ignore[import-untyped] # kombu's driver; it has no types
    from kombu.exceptions import OperationalError

    from keyhole.jobs.publisher import DeliveryUncertainError
    from keyhole.store.durability import NotDurableError

    try:
        yield
    except EmbeddedError as error:
        raise CommandError(str(error)) from error
    except (ClusterError, ClusterCrossSlotError, MovedError) as error:
        raise CommandError(redis_trouble(error), USAGE) from error
    except NotDurableError as error:
        raise CommandError(_line(error)) from error
    except redis.RedisError as error:
        raise CommandError(redis_trouble(error)) from error
    except (DeliveryUncertainError, OperationalError, AMQPError) as error:
        raise CommandError(f"{_line(error)}; {_what_to_do(error)}, then submit again") from error
    except BucketNotAllowedError as error:
        raise CommandError(_line(error), USAGE) from error
    except (SourceError, CorruptRecordError) as error:
        raise CommandError(_line(error)) from error


def _what_to_do(error: BaseException) -> str:
    """What to do about a broker's error."""
    if "maxmemory" in str(error):
        return "the Redis of KEYHOLE_BROKER_URL is full: raise its maxmemory"
    return "check KEYHOLE_BROKER_URL"


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
