"""The permissions that Keyhole's Redis user needs, and a test that finds the permissions that a user lacks.

The test changes no data. It opens a transaction, sends every command, and discards the transaction. The
server does not execute the commands, but checks the permissions for each command when it queues the command.

Source: redis.io and valkey.io, "ACL" and "Transactions".
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import redis

from keyhole.store.keys import IN_SLOT

#: The pattern of all keys of Keyhole and of its broker.
KEYS: Final = "~keyhole:*"
#: The channel on which kombu sends Celery's control commands to all workers, for example to check which
#: workers are running. kombu derives the name from the fanout exchange `celery.pidbox`.
CHANNEL: Final = "keyhole:broker:/{db}.celery.pidbox"
#: In a cluster, all keys of a transaction must be in the same hash slot.
_KEY: Final = f"{IN_SLOT}permissions"
#: Every command that Keyhole, kombu and their scripts call, with the arguments that the test uses.
COMMANDS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("ping", ()),
    ("info", ()),
    ("time", ()),
    ("select", ("0",)),
    ("client|setname", ("keyhole",)),
    ("client|setinfo", ("lib-name", "keyhole")),
    ("get", (_KEY,)),
    ("set", (_KEY, "1")),
    ("mget", (_KEY,)),
    ("incrby", (_KEY, "1")),
    ("del", (_KEY,)),
    ("exists", (_KEY,)),
    ("expire", (_KEY, "1")),
    ("pexpire", (_KEY, "1")),
    ("pttl", (_KEY,)),
    ("persist", (_KEY,)),
    ("hget", (_KEY, "f")),
    ("hset", (_KEY, "f", "1")),
    ("hsetnx", (_KEY, "f", "1")),
    ("hdel", (_KEY, "f")),
    ("hexists", (_KEY, "f")),
    ("hlen", (_KEY,)),
    ("hmget", (_KEY, "f")),
    ("hgetall", (_KEY,)),
    ("hvals", (_KEY,)),
    ("hincrby", (_KEY, "f", "1")),
    ("lpush", (_KEY, "1")),
    ("rpush", (_KEY, "1")),
    ("lmove", (_KEY, _KEY, "LEFT", "RIGHT")),
    ("blmove", (_KEY, _KEY, "LEFT", "RIGHT", "1")),
    ("brpop", (_KEY, "1")),
    ("llen", (_KEY,)),
    ("lindex", (_KEY, "0")),
    ("lrange", (_KEY, "0", "1")),
    ("lrem", (_KEY, "0", "1")),
    ("ltrim", (_KEY, "0", "1")),
    ("lpos", (_KEY, "1")),
    ("sadd", (_KEY, "1")),
    ("srem", (_KEY, "1")),
    ("smembers", (_KEY,)),
    ("sismember", (_KEY, "1")),
    ("zadd", (_KEY, "1", "m")),
    ("zrem", (_KEY, "m")),
    ("zcard", (_KEY,)),
    ("zcount", (_KEY, "0", "1")),
    ("zlexcount", (_KEY, "-", "+")),
    ("zscore", (_KEY, "m")),
    ("zrange", (_KEY, "0", "1")),
    ("zrangebyscore", (_KEY, "0", "1")),
    ("zrevrange", (_KEY, "0", "1")),
    ("xadd", (_KEY, "*", "f", "1")),
    ("xread", ("STREAMS", _KEY, "0")),
    ("xrevrange", (_KEY, "+", "-")),
    ("evalsha", ("0" * 40, "1", _KEY)),
    ("script|load", ("return 1",)),
    ("script|exists", ("0" * 40,)),
    ("waitaof", ("0", "0", "1")),
    ("publish", (CHANNEL, "")),
    ("psubscribe", (CHANNEL,)),
    ("punsubscribe", (CHANNEL,)),
    ("unwatch", ()),
    ("watch", (_KEY,)),
)
#: The rules without which Keyhole still works. Without `info`, `keyhole doctor` reports less. Without
#: `waitaof`, Keyhole cannot wait until data are on the server's disk. `select` is needed only if the URL
#: names a database, and `client|setname` only if the URL names a client. With `client|setinfo`, redis-py
#: reports its name and version; if this command is not allowed, redis-py ignores the error.
OPTIONAL: Final = frozenset({"+info", "+select", "+client|setname", "+client|setinfo", "+waitaof"})
#: The commands that the test itself needs.
_TRANSACTION: Final = ("multi", "exec", "discard")


def rules(database: int = 0) -> str:
    """Return the smallest set of rules for Keyhole's user, in the syntax of `ACL SETUSER`."""
    names = [*_TRANSACTION, *(name for name, _ in COMMANDS)]
    return " ".join([KEYS, "&" + CHANNEL.format(db=database), "-@all", *(f"+{name}" for name in names)])


def lacking(client: redis.Redis, *, is_broker: bool) -> list[str]:
    """Return the rules that the client's user lacks, in the syntax of `ACL SETUSER`.

    Args:
        client: A client that is logged in as the user.
        is_broker: Whether this Redis is also the broker. Otherwise, the channel is not tested.

    Raises:
        redis.RedisError: Redis did not respond.
    """
    connection = client.connection_pool.get_connection()
    database = int(client.connection_pool.connection_kwargs.get("db", 0))
    try:
        return list(dict.fromkeys(_lacking(connection, database, is_broker=is_broker)))
    finally:
        # Closing the connection discards the transaction with the queued commands.
        connection.disconnect()  # type: ignore[no-untyped-call] # redis-py's
        client.connection_pool.release(connection)


def refused(client: redis.Redis, commands: Iterable[Sequence[str]]) -> str | None:
    """Return the server's error for the first command that the user is not allowed to run, or `None`.

    Raises:
        redis.RedisError: Redis did not respond.
    """
    connection = client.connection_pool.get_connection()
    try:
        tried = (_refusal(connection, *command) for command in (("MULTI",), *commands))
        return next((told for told in tried if told is not None), None)
    finally:
        connection.disconnect()  # type: ignore[no-untyped-call] # redis-py's
        client.connection_pool.release(connection)


def _refusal(connection: Any, *command: str) -> str | None:  # noqa: ANN401 - redis-py's
    connection.send_command(*command)
    try:
        connection.read_response()
    except redis.exceptions.NoPermissionError as error:
        return str(error)
    except redis.ResponseError:
        pass  # The user has the permission. An old server lacks the command, or refuses it in a transaction.
    return None


def _lacking(connection: Any, database: int, *, is_broker: bool) -> Iterator[str]:  # noqa: ANN401 - redis-py's
    refusal = partial(_refusal, connection)
    if refusal("MULTI") is not None:
        yield "+multi"
        return
    for name, arguments in COMMANDS:
        channels = CHANNEL in arguments
        if channels and not is_broker:
            continue
        values = [CHANNEL.format(db=database) if value == CHANNEL else value for value in arguments]
        told = refusal(*name.upper().split("|"), *values)
        if told is None:
            continue
        # The error ends with "to run the 'x' command", or with "to access" followed by words that state
        # whether a key or a channel is refused. Search from the end of the error, because the user's name
        # comes earlier in it and can contain the same words.
        refused = told.rpartition(" to access ")[2] if " to access " in told else None
        if refused is None:
            yield f"+{name}"
        elif "channel" in refused:
            yield "&" + CHANNEL.format(db=database)
        else:
            yield KEYS
