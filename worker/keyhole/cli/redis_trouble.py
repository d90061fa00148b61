"""Turns errors of Redis into one line that says what is wrong and what to do."""

from typing import Any, Final

import redis
from redis.exceptions import ClusterCrossSlotError, ClusterError, MasterDownError, MovedError

from keyhole.masking import masked
from keyhole.store.cluster import SlotUnavailableError

CLUSTER_BROKER: Final = (
    "this Redis belongs to a cluster, which can store verdicts but not queue jobs; set KEYHOLE_BROKER_URL to "
    "RabbitMQ (amqp://), SQS (sqs://) or a Redis without cluster mode"
)
CLUSTER_SOCKET: Final = (
    "this Redis belongs to a cluster, which Keyhole cannot use through a Unix socket; set {setting} to "
    "redis://host:port"
)
SENTINEL: Final = (
    "this is a sentinel, which stores no data, and Keyhole does not use sentinels; set {setting} to the "
    "primary, or to an address that always leads to the primary"
)
REPLICA: Final = "a replica{of}, which accepts no writes; set {setting} to the primary"
#: The message for each type of error.
_KINDS: Final = (
    ((ClusterError, ClusterCrossSlotError, MovedError), CLUSTER_BROKER),
    (
        SlotUnavailableError,
        "the Redis cluster does not serve Keyhole's keys ({error}); look for failed nodes with CLUSTER NODES",
    ),
    (redis.AuthenticationError, "Redis refuses the login ({error}); correct user and password in {setting}"),
    (
        redis.exceptions.NoPermissionError,
        "the user of {setting} lacks a permission ({error}); {doctor}",
    ),
    (
        redis.ReadOnlyError,
        "Redis is " + REPLICA.format(of="", setting="{setting}"),
    ),
    (
        redis.OutOfMemoryError,
        "Redis is full ({error}); raise its maxmemory, or let verdicts expire; {doctor}",
    ),
    (
        MasterDownError,
        "Redis is a replica without a connection to its primary ({error}); set {setting} to the primary",
    ),
)
#: The messages for errors for which redis-py has no separate type. Keyhole recognizes these errors by a part
#: of their text.
_WORDS: Final = (
    ("NOAUTH", _KINDS[2][1]),
    ("Authentication required", _KINDS[2][1]),
    ("NOREPLICAS", "Redis accepts no writes, because too few replicas are connected ({error}); {doctor}"),
    (
        "MISCONF",
        "Redis accepts no writes, because it cannot write to its disk ({error}); check its disk and its log",
    ),
    ("unknown command", "Redis lacks a command ({error}), because it is too old or a sentinel; {doctor}"),
)
_DOCTOR: Final = "see `keyhole doctor`"


def redis_trouble(error: redis.RedisError, setting: str = "KEYHOLE_REDIS_URL") -> str:
    """Return one line about an error of a Redis.

    `setting` is the name of the setting that contains the URL of this Redis.
    """
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    known = [line for kinds, line in _KINDS if isinstance(error, kinds)]
    known += [line for words, line in _WORDS if words in said]
    line = known[0] if known else "Redis does not answer ({error}); check {setting}"
    return masked(line.format(error=said, setting=setting, doctor=_DOCTOR))


def is_refused(error: redis.RedisError) -> bool:
    """Return whether Redis refuses this client, for example because of a wrong password.

    In this case, waiting does not help.
    """
    return (
        isinstance(error, redis.AuthenticationError)
        or (isinstance(error, redis.ResponseError) and not isinstance(error, redis.BusyLoadingError))
        or any(words in str(error) for words in ("CERTIFICATE_VERIFY_FAILED", "Authentication required"))
    )


def unusable(info: dict[str, Any], url: str, setting: str, *, is_broker: bool) -> str | None:
    """Return why Keyhole cannot use the Redis that returned this `INFO`; `None` if Keyhole can use it.

    Args:
        info: The response to `INFO`.
        url: The URL of this Redis.
        setting: The name of the setting that contains the URL.
        is_broker: Whether this Redis is used as the broker, or as both the broker and the store.
    """
    if info.get("redis_mode") == "sentinel":
        return SENTINEL.format(setting=setting)
    if not info.get("cluster_enabled"):
        return None
    if is_broker:
        return CLUSTER_BROKER
    return CLUSTER_SOCKET.format(setting=setting) if url.startswith("unix:") else None


def replica_of(info: dict[str, Any], setting: str) -> str | None:
    """If `info` comes from a replica, return a description and advice; otherwise `None`."""
    if info.get("role") != "slave":
        return None
    return REPLICA.format(of=f" of {info.get('master_host')}:{info.get('master_port')}", setting=setting)
