"""Waits until writes are on the server's disk, if the server can tell.

`WAITAOF` (Redis 7.2, Valkey) answers when the append-only file holds everything that the connection wrote.
With `appendfsync everysec`, the default, that takes up to a second; with `always` it takes no time; with `no`
it never happens, so that nothing is accepted. A server may lack the command, forbid it to this user, or have
no append-only file. Then Keyhole does not wait, logs that once, and `keyhole doctor` says what a crash can
lose. A server without an append-only file is asked again each time, because it can get one while it runs.

Source: redis.io, "WAITAOF"; valkey.io, "WAITAOF".
"""

import logging
from typing import Any, Final

import redis

from keyhole.errors import KeyholeError

_log = logging.getLogger(__name__)

#: Milliseconds. A disk that takes longer to sync is in trouble. A command's own timeout is longer.
_LONGEST_WAIT_MS: Final = 10_000
#: Errors of servers that lack the command, or have no append-only file. Both have the code `ERR`.
NO_COMMAND: Final = "unknown command"
_NO_FILE: Final = "appendonly is disabled"


class NotDurableError(KeyholeError, redis.RedisError):
    """The server accepted the data, but did not write them to its disk in time."""


class Durability:
    """Ends pipelines with a wait for the server's disk."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._waits = True
        self._told = False

    def execute(self, pipe: redis.client.Pipeline) -> list[Any]:  # what the commands of the pipeline answer
        """Execute a pipeline that is not a transaction, and return its answers once the data are on disk.

        Raises:
            NotDurableError: The disk is too slow. The data are in the server's memory, and may be lost.
            redis.RedisError: A command failed, or the wait did; the data may be lost as well.
        """
        if not self._waits:
            return list(pipe.execute())
        pipe.waitaof(1, 0, _LONGEST_WAIT_MS)
        answers: list[Any] = pipe.execute(raise_on_error=False)
        waited = answers.pop()
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if isinstance(waited, Exception):
            self._go_on_without(waited)
        elif not waited[0]:
            raise NotDurableError(
                f"Redis did not write the data to its disk within {_LONGEST_WAIT_MS / 1000:g} "
                "seconds; see `keyhole doctor`"
            )
        return answers

    def _go_on_without(self, error: Exception) -> None:
        """Log that the server cannot wait for its disk; raise the error if it means something else."""
        forbidden = isinstance(error, redis.exceptions.NoPermissionError)
        lacks = isinstance(error, redis.ResponseError) and NO_COMMAND in str(error).lower()
        if forbidden or lacks:
            self._waits = False
        elif not (isinstance(error, redis.ResponseError) and _NO_FILE in str(error)):
            raise error
        if not self._told:
            self._told = True
            advice = "allow this user +waitaof, and " if forbidden else ""
            _log.warning(
                "Redis cannot say when data are on its disk (%s); %ssee `keyhole doctor`", error, advice
            )
