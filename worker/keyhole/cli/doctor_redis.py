"""The doctor's checks of a Redis: what the server refuses, and which data a crash would lose.

The checks write nothing.

Some values are only available from the command `CONFIG`, which can also show passwords. Managed Redis servers
therefore refuse this command, and the permissions that Keyhole recommends for its Redis user do not include
it. If Redis refuses `CONFIG`, the doctor reports these values as unknown.

Source: redis.io and valkey.io, "INFO", "CONFIG GET", "WAITAOF", "ROLE".
"""

from collections.abc import Generator, Iterator
from typing import Any, Final

import redis

from keyhole.cli.doctor_check import ANSWER_SECONDS
from keyhole.cli.findings import ADVICE, BAD, GOOD, Finding
from keyhole.cli.other_end import other_end
from keyhole.cli.redis_trouble import redis_trouble, replica_of, unusable
from keyhole.masking import masked_url
from keyhole.reports.figures import size
from keyhole.store.cluster import SLOT
from keyhole.store.connection import connect
from keyhole.store.durability import NO_COMMAND
from keyhole.store.keys import IN_SLOT
from keyhole.store.permissions import OPTIONAL, lacking

SETTING: Final = "KEYHOLE_REDIS_URL"
#: If Redis uses at least this share of `maxmemory`, the doctor gives advice.
NEARLY_FULL: Final = 0.8


def ask(url: str, *, is_broker: bool = False) -> redis.Redis:
    """Return a client that waits only `ANSWER_SECONDS` for an answer, and does not retry.

    If `is_broker` is true, the client connects only to the server in the URL, because a cluster cannot be the
    broker.
    """
    return connect(url, answer_seconds=ANSWER_SECONDS, retries=0, only_server=is_broker)


def of_redis(url: str, *, is_broker: bool) -> Iterator[Finding]:
    """Yield findings on the Redis that stores verdicts.

    If Redis does not answer, the first finding is bad. `is_broker` states whether this Redis is also the
    broker.
    """
    with ask(url, is_broker=is_broker) as client:
        info = yield from _answering("redis", client, url, SETTING, is_broker=is_broker)
        if info is None or unusable(info, url, SETTING, is_broker=is_broker):
            return
        yield from _memory("redis", info)
        yield from _durability(client, info)


def of_redis_broker(url: str, setting: str) -> Iterator[Finding]:
    """Yield findings on a Redis that is only the broker.

    The durability of the broker is not checked, because the workers can send a lost message again from the
    ledger.
    """
    with ask(url, is_broker=True) as client:
        info = yield from _answering("broker", client, url, setting, is_broker=True)
        if info is not None and not unusable(info, url, setting, is_broker=True):
            yield from _memory("broker", info)


def of_user(url: str, *, what: str, is_broker: bool) -> Iterator[Finding]:
    """Yield a finding on the permissions of the Redis user. If Redis does not answer, yield nothing."""
    try:
        with ask(url, is_broker=is_broker) as client:
            missing = lacking(client, is_broker=is_broker)
    except (redis.ConnectionError, redis.TimeoutError):
        return
    if missing:
        state = ADVICE if OPTIONAL.issuperset(missing) else BAD
        yield Finding(what, state, f"the user lacks {' '.join(missing)}; grant these with ACL SETUSER")
    else:
        yield Finding(what, GOOD, "the user has all permissions that Keyhole needs")


def _answering(
    what: str, client: redis.Redis, url: str, setting: str, *, is_broker: bool
) -> Generator[Finding, None, dict[str, Any] | None]:
    """Yield findings on whether the Redis answers and accepts writes.

    Returns:
        The result of `INFO`; `None` if Redis does not answer or refuses the command.
    """
    try:
        info: dict[str, Any] = client.info()
    except redis.exceptions.NoPermissionError:
        yield Finding(what, ADVICE, f"{masked_url(url)} answers, but refuses INFO; allow +info")
        return None
    except redis.RedisError as error:
        yield Finding(what, BAD, f"{masked_url(url)}: {redis_trouble(error, setting)}{other_end(url)}")
        return None
    valkey = info.get("valkey_version")
    name = f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version', 'of an unknown version')}"
    yield Finding(what, GOOD, f"{name} at {masked_url(url)}")
    of_no_use = unusable(info, url, setting, is_broker=is_broker)
    if of_no_use is not None:
        yield Finding(f"{what} role", BAD, of_no_use)
    else:
        yield from _writing(what, client, info, setting)
    return info


def _writing(what: str, client: redis.Redis, info: dict[str, Any], setting: str) -> Iterator[Finding]:
    """Yield findings on whether the Redis accepts writes."""
    if info.get("cluster_enabled"):
        yield _in_cluster(what, client, setting)
    replica = replica_of(info, setting)
    if replica is not None:
        yield Finding(f"{what} role", BAD, replica)
    elif "role" in info:
        replicas = info.get("connected_slaves", 0)
        yield Finding(
            f"{what} role", GOOD, f"primary, {replicas} {'replica' if replicas == 1 else 'replicas'}"
        )
    # `INFO` contains `min_slaves_good_slaves` only if `min-replicas-to-write` is set.
    good, wanted = info.get("min_slaves_good_slaves"), _config(client, "min-replicas-to-write")
    if good is not None and wanted is not None and int(good) < int(wanted):
        yield Finding(
            f"{what} role",
            BAD,
            f"it accepts no writes, because only {good} of {wanted} required replicas are connected "
            "(min-replicas-to-write); start them",
        )
    failed = {
        "rdb_last_bgsave_status": "the last snapshot",
        "aof_last_write_status": "the last write to the append-only file",
        "aof_last_bgrewrite_status": "the last rewrite of the append-only file",
    }
    for field, failure in failed.items():
        if info.get(field, "ok") != "ok":
            yield Finding(
                f"{what} disk",
                BAD,
                f"{failure} failed, so Redis may refuse writes; check its disk and its log",
            )


def _in_cluster(what: str, client: redis.Redis, setting: str) -> Finding:
    """Return a finding on whether the cluster serves Keyhole's keys, and whether Keyhole finds its nodes."""
    try:
        client.exists(IN_SLOT)
        client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call] # redis-py's
    except redis.exceptions.NoPermissionError:
        advice = "allow +cluster|slots, so that Keyhole finds the other nodes if the node in the URL fails"
        return Finding(f"{what} cluster", ADVICE, advice)
    except redis.RedisError as error:
        return Finding(f"{what} cluster", BAD, redis_trouble(error, setting))
    return Finding(f"{what} cluster", GOOD, f"the node of hash slot {SLOT} has all of Keyhole's keys")


def _memory(what: str, info: dict[str, Any]) -> Iterator[Finding]:
    """Yield findings on how much of its memory Redis uses, and on its behaviour when its memory is full."""
    policy = info.get("maxmemory_policy", "unknown")
    if policy not in {"noeviction", "unknown"}:
        yield Finding(
            f"{what} memory",
            BAD,
            f"maxmemory-policy is {policy}: a full Redis silently deletes jobs; set it to noeviction",
        )
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        yield Finding(
            f"{what} memory",
            GOOD,
            f"{size(used)} in use; maxmemory is not set, so the host's memory is the limit",
        )
        return
    told = f"{size(used)} of {size(most)} in use"
    if used >= most:
        yield Finding(
            f"{what} memory",
            BAD,
            f"full, {told}: Redis refuses jobs and verdicts; raise maxmemory, or let verdicts expire "
            "(KEYHOLE_RECORD_SECONDS)",
        )
    elif used >= NEARLY_FULL * most:
        yield Finding(f"{what} memory", ADVICE, f"{told}; when Redis is full, it refuses jobs and verdicts")
    else:
        yield Finding(f"{what} memory", GOOD, told)


def _durability(client: redis.Redis, info: dict[str, Any]) -> Iterator[Finding]:
    """Yield a finding on what a crash of the server would lose."""
    if not info.get("aof_enabled"):
        yield Finding(
            "redis disk",
            ADVICE,
            "appendonly is off: a crash loses all jobs and verdicts since the last snapshot; "
            "set appendonly yes",
        )
        return
    fsync, waits = _config(client, "appendfsync"), _has_waitaof(client)
    if fsync == "no" and waits:
        yield Finding(
            "redis disk",
            BAD,
            "appendfsync is no, so the server never confirms that jobs are on disk, and Keyhole accepts no "
            "jobs; set appendfsync everysec",
        )
        return
    loses = {
        "always": "a crash loses nothing",
        "everysec": "a crash loses up to 2 s of verdicts, whose objects are scanned again",
        "no": "a crash of the host loses about 30 s of verdicts; set appendfsync everysec",
        None: "the doctor cannot tell what a crash loses",
    }
    told = f"append-only file, appendfsync {fsync or 'unknown'}: {loses.get(fsync, loses[None])}"
    if waits:
        yield Finding("redis disk", GOOD, f"{told}; accepted jobs are on disk (WAITAOF)")
    elif fsync == "always":
        yield Finding("redis disk", GOOD, told)
    else:
        lacks = (
            "the server lacks WAITAOF" if waits is False else "it is unknown whether the server has WAITAOF"
        )
        yield Finding("redis disk", ADVICE, f"{told}; {lacks}: a crash can also lose the last accepted jobs")


def _config(client: redis.Redis, name: str) -> str | None:
    """Return the value of a setting of the server, or `None` if the server does not return it."""
    try:
        return client.config_get(name).get(name)
    except redis.RedisError:
        return None


def _has_waitaof(client: redis.Redis) -> bool | None:
    """Return whether the server supports `WAITAOF`, or `None` if this is unknown.

    The answer is unknown if the Redis user lacks the permission to run `WAITAOF`, or if Redis does not
    answer. The check runs `WAITAOF 0 0 0`, which waits for no disk and no replica, and therefore returns
    immediately.
    """
    try:
        client.execute_command("WAITAOF", 0, 0, 0)  # type: ignore[no-untyped-call] # redis-py's
    except redis.exceptions.NoPermissionError:
        return None
    except redis.ResponseError as error:
        # Every other error means that the server supports WAITAOF. For example, a replica refuses to run it.
        return NO_COMMAND not in str(error).lower()
    except redis.RedisError:
        return None
    return True
