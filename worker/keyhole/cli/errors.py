"""Errors that end a command. Each error has an exit code and a one-line message that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from keyhole.errors import KeyholeError

if TYPE_CHECKING:
    from keyhole.settings import Settings

#: Exit codes of commands.
ALL_SAFE, SOME_NOT_SAFE, USAGE, UNDECIDED = 0, 1, 2, 3
#: The exit code of a worker that ended although nobody had stopped it (`EX_SOFTWARE` in sysexits.h).
ENDED_BY_ITSELF = 70
#: The exit code that shells use for Ctrl-C.
INTERRUPTED = 130


class CommandError(KeyholeError):
    """A command cannot continue. The message is one line."""

    def __init__(self, message: str, exit_code: int = UNDECIDED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def load_settings(*, policy: str | None = None) -> "Settings":
    """Return the settings from the environment.

    If `policy` is given, it replaces the policy from the environment.

    Raises:
        CommandError: A setting is wrong; the message names the setting.
    """
    from pydantic import ValidationError

    from keyhole.masking import masked_url
    from keyhole.settings import Settings

    try:
        return Settings() if policy is None else Settings(policy=policy)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:  # the error concerns several settings
            raise CommandError(message, USAGE) from None
        field = str(first["loc"][0])
        name = "--policy" if policy is not None and field == "policy" else f"KEYHOLE_{field.upper()}"
        if field.endswith(("_secret", "_token")):
            raise CommandError(f"{name} is wrong: {message}", USAGE) from None
        value = masked_url(str(first["input"])) if field.endswith("_url") else repr(first["input"])
        raise CommandError(f"{name} is set to {value}: {message}", USAGE) from None


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors of Redis and of the broker into a `CommandError`, whose message says what to do."""
    try:
        yield
    except Exception as error:
        ending = _ending(error)
        if ending is None:
            raise
        raise ending from error


def _ending(error: Exception) -> CommandError | None:
    """Return the error that ends the command if `error` comes from Redis or the broker, otherwise `None`."""
    # Imported here, because these imports take time, and only a command that fails needs them.
    import redis
    from amqp import AMQPError  # type: ignore[import-untyped] # kombu's driver; it has no types
    from botocore.exceptions import BotoCoreError, ClientError
    from kombu.exceptions import OperationalError
    from redis.exceptions import ClusterCrossSlotError, ClusterError, MovedError

    from keyhole.cli.redis_trouble import redis_trouble
    from keyhole.jobs.publisher import DeliveryUncertainError

    match error:
        case DeliveryUncertainError() | OperationalError() | AMQPError():
            return CommandError(_about_broker(error))
        case KeyholeError():
            return None
        case ClusterError() | ClusterCrossSlotError() | MovedError():
            return CommandError(redis_trouble(error), USAGE)
        case redis.RedisError():
            return CommandError(redis_trouble(error))
        case BotoCoreError() | ClientError():  # of SQS as the broker; S3's are `SourceError`
            advice = "check the network, the credentials and KEYHOLE_BROKER_URL"
            return CommandError(f"AWS does not answer as expected ({first_line(error)}); {advice}")
        case _:
            return None


def _about_broker(error: Exception) -> str:
    """Return one line with the broker's error and advice."""
    advice = (
        "the Redis of KEYHOLE_BROKER_URL is full: raise its maxmemory"
        if "maxmemory" in str(error)
        else "check KEYHOLE_BROKER_URL"
    )
    return f"{first_line(error)}; {advice}, then submit again"


def exit_code_of(error: KeyholeError) -> int:
    """Return the exit code of a command that ends with this error."""
    if isinstance(error, CommandError):
        return error.exit_code
    return USAGE if error.is_usage else UNDECIDED


def first_line(error: Exception) -> str:
    """Return the first line of an error's message.

    If the message is empty, return the name of the error's class.
    """
    return str(error).splitlines()[0] if str(error) else type(error).__name__
