"""Wait until what was written is on the server's disk, where the server can tell.

`WAITAOF` (Redis 7.2, Valkey) answers once the append-only file holds all that the connection wrote. With
`appendfsync everysec`, the default, that takes up to a second; with `always` nothing; with `no` for ever, so
that nothing is accepted. A server that lacks the
command, has no append-only file, or forbids the command to this user, promises nothing: then nothing is
waited for, which is logged once, and `keyhole doctor` says what is lost in a crash.

Source: redis.io, "WAITAOF"; valkey.io, "WAITAOF".
"""

import logging
from typing import Any, Final

import redis

_log = logging.getLogger(__name__)

#: Milliseconds: a disk that takes longer to sync is in trouble. It is well within a command's own timeout.
_LONGEST_WAIT_MS: Final = 10_000


class NotDurableError(redis.RedisError):
    """The server took the data, and did not bring them to its disk in time."""


class Durability:
    """Ends pipelines with a wait for the server's disk."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._waits = True

    def execute(self, pipe: redis.client.Pipeline) -> list[Any]:  # what the commands of the pipeline answer
        """Execute a pipeline that is no transaction, and return its answers once they are on disk.

        Raises:
            NotDurableError: The disk is too slow. The data are in the server's memory, and may be lost.
        """
        if not self._waits:
            return list(pipe.execute())
        pipe.waitaof(1, 0, _LONGEST_WAIT_MS)
        answers: list[Any] = pipe.execute(raise_on_error=False)
        waited = answers.pop()
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if isinstance(waited, redis.ResponseError):
            self._waits = False
            _log.warning("Redis does not tell when data are on its disk (%s); see `keyhole doctor`", waited)
        elif isinstance(waited, Exception):
            raise waited
        elif not waited[0]:
            raise NotDurableError(
                f"Redis did not bring the jobs to its disk within {_LONGEST_WAIT_MS // 1000} seconds; "
                "see `keyhole doctor`"
            )
        return answers
