"""Waits until the Redis server has written data to its disk, if the server supports this.

The command `WAITAOF` (Redis 7.2, Valkey) returns when the server's append-only file on disk contains
everything that this connection has written. The wait depends on the server's setting `appendfsync`. With
`everysec`, the default, the wait takes up to a second. With `always`, the data are already on disk. With
`no`, the server does not sync the file, so the wait times out, and Keyhole accepts no work.

Some servers do not have the command, do not allow Keyhole's user to call it, or have no append-only file.
Keyhole then continues without waiting and logs a warning once. `keyhole doctor` reports which data a crash of
the server can lose. If the command is missing or not allowed, Keyhole does not call it again. If only the
append-only file is missing, Keyhole still sends the command with every pipeline, because an administrator can
enable the file while the server runs.

Source: redis.io, "WAITAOF"; valkey.io, "WAITAOF".
"""

import logging
from typing import Any, Final

import redis

from keyhole.errors import KeyholeError

_log = logging.getLogger(__name__)

#: The longest wait in milliseconds. If a sync takes longer, the disk has a problem. The wait is shorter than
#: the client's timeout for a response.
_LONGEST_WAIT_MS: Final = 10_000
#: Parts of the error messages of a server that does not have the command, and of a server that has no
#: append-only file. The error code is `ERR` in both cases, so Keyhole must compare the messages.
NO_COMMAND: Final = "unknown command"
_NO_FILE: Final = "appendonly is disabled"


class NotDurableError(KeyholeError, redis.RedisError):
    """The server accepted the data, but did not write them to its disk in time."""


class Durability:
    """Executes pipelines, and waits after each pipeline until the server has written the data to its disk."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._waits = True
        self._told = False

    def execute(self, pipe: redis.client.Pipeline) -> list[Any]:  # the types depend on the commands
        """Execute a pipeline that is not a transaction. Return the responses when the data are on disk.

        Raises:
            NotDurableError: The wait timed out. The data may be only in the server's memory.
            redis.RedisError: A command or the wait failed. The server may have executed some of the commands.
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
        """Log a warning if the server does not support the wait. If the error has another cause, raise it."""
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
                "Redis cannot confirm that data are on its disk (%s); %ssee `keyhole doctor`", error, advice
            )
