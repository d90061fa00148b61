"""What the doctor says of a Redis: what it promises, and what it refuses. Nothing is written to find out.

A managed Redis refuses `CONFIG`, and so do the least rules of a user, for it shows passwords. What only it
tells is then said to be unknown.

Source: redis.io and valkey.io, "INFO", "CONFIG GET", "WAITAOF", "ROLE".
"""

from collections.abc import Iterator
from typing import Any, Final

import humanize
import redis

from worker.cli.errors import CLUSTER
from worker.cli.findings import ADVICE, BAD, GOOD, Finding
from worker.jobs.durability import NO_COMMAND
from worker.results.permissions import OPTIONAL, lacking
from worker.sources.masking import masked_url

#: Seconds that the doctor waits for an answer, and how often it asks again.
ANSWER_SECONDS: Final = 5.0
RETRIES: Final = 0
#: The share of `maxmemory` in use from which on there is something to be done.
NEARLY_FULL: Final = 0.8


def of_redis(client: redis.Redis, url: str) -> Iterator[Finding]:
    """All that there is to say of one Redis. The first finding is bad if it does not answer."""
    try:
        info: dict[str, Any] = client.info()
    except redis.RedisError as error:
        yield Finding(
            "redis", BAD, f"{masked_url(url)} does not answer: {one_line(error)}; check KEYHOLE_REDIS_URL"
        )
        return
    name = (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    )
    yield Finding("redis", GOOD, f"{name} at {masked_url(url)}")
    yield from _writing(info)
    yield from _memory(info)
    yield from _durability(client, info)


def of_user(client: redis.Redis, *, is_broker: bool) -> Iterator[Finding]:
    """Whether its user may do all that it must; of a Redis that does not answer there is nothing to say."""
    try:
        missing = lacking(client, is_broker=is_broker)
    except (redis.ConnectionError, redis.TimeoutError):
        return
    if missing:
        state = ADVICE if OPTIONAL.issuperset(missing) else BAD
        yield Finding("redis user", state, f"it lacks {' '.join(missing)}; give it these by ACL SETUSER")
    else:
        yield Finding("redis user", GOOD, "it may do all that it must")


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _writing(info: dict[str, Any]) -> Iterator[Finding]:
    """Whether it takes writes at all."""
    if info.get("cluster_enabled"):
        yield Finding("redis role", BAD, CLUSTER)
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        yield Finding(
            "redis role",
            BAD,
            f"a replica of {primary}, which takes no jobs and no verdicts; "
            "set KEYHOLE_REDIS_URL to the primary",
        )
    elif "role" in info:
        replicas = info.get("connected_slaves", 0)
        yield Finding("redis role", GOOD, f"primary, {replicas} {'replica' if replicas == 1 else 'replicas'}")
    failed = {
        "rdb_last_bgsave_status": "the last snapshot",
        "aof_last_write_status": "the last write to the append-only file",
        "aof_last_bgrewrite_status": "the last rewriting of the append-only file",
    }
    for field, what in failed.items():
        if info.get(field, "ok") != "ok":
            yield Finding(
                "redis disk", BAD, f"{what} failed, so writes may be refused; look at its disk and its log"
            )


def _memory(info: dict[str, Any]) -> Iterator[Finding]:
    """How full it is, and what it does when it is full."""
    policy = info.get("maxmemory_policy", "unknown")
    if policy not in {"noeviction", "unknown"}:
        yield Finding(
            "redis memory",
            BAD,
            f"maxmemory-policy is {policy}: it drops jobs silently; set it to noeviction",
        )
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not most:
        yield Finding(
            "redis memory",
            GOOD,
            f"{_size(used)} in use, no limit (maxmemory); the host's memory is the limit",
        )
        return
    told = f"{_size(used)} of {_size(most)} in use"
    if used >= most:
        yield Finding(
            "redis memory",
            BAD,
            f"full, {told}: it refuses jobs and verdicts; raise maxmemory, or let verdicts expire "
            "(KEYHOLE_RECORD_SECONDS)",
        )
    elif used >= NEARLY_FULL * most:
        yield Finding("redis memory", ADVICE, f"{told}; when it is full it refuses jobs and verdicts")
    else:
        yield Finding("redis memory", GOOD, told)


def _durability(client: redis.Redis, info: dict[str, Any]) -> Iterator[Finding]:
    """What a crash of the server loses."""
    if not info.get("aof_enabled"):
        yield Finding(
            "redis disk",
            ADVICE,
            "appendonly is off: a crash loses all jobs and verdicts since the last snapshot; "
            "set appendonly yes",
        )
        return
    fsync, waits = _fsync(client), _has_waitaof(client)
    if fsync == "no" and waits:
        yield Finding(
            "redis disk",
            BAD,
            "appendfsync is no, so the server never says that jobs are on its disk, and none is accepted; "
            "set it to everysec",
        )
        return
    loses = {
        "always": "a crash loses nothing",
        "everysec": "a crash loses up to 2 s of verdicts, whose objects are scanned again",
        "no": "a crash of the host loses some 30 s of verdicts; set it to everysec",
        None: "what a crash loses, the server does not tell",
    }
    told = f"append-only file, appendfsync {fsync or 'unknown'}: {loses.get(fsync, loses[None])}"
    if waits:
        yield Finding("redis disk", GOOD, f"{told}; what is accepted is on disk (WAITAOF)")
    elif fsync == "always":
        yield Finding("redis disk", GOOD, told)
    else:
        lacks = "the server lacks WAITAOF" if waits is False else "whether it has WAITAOF, it does not tell"
        yield Finding("redis disk", ADVICE, f"{told}; {lacks}: jobs accepted last may be lost with them")


def _fsync(client: redis.Redis) -> str | None:
    """`always`, `everysec` or `no`; `None` if the server does not tell."""
    try:
        found = client.config_get("appendfsync")
    except redis.RedisError:
        return None
    return found.get("appendfsync")


def _has_waitaof(client: redis.Redis) -> bool | None:
    """Whether the server waits for its disk when this user asks it to; `None` if it does not tell.

    It is asked to wait for no disk and no replica, which takes no time.
    """
    try:
        client.execute_command("WAITAOF", 0, 0, 0)  # type: ignore[no-untyped-call] # redis-py's
    except redis.exceptions.NoPermissionError:
        return None
    except redis.ResponseError as error:
        return NO_COMMAND not in str(error).lower()  # a replica has it and refuses it
    except redis.RedisError:
        return None
    return True


def _size(count: int) -> str:
    return humanize.naturalsize(count, binary=True)
