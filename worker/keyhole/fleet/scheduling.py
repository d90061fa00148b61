"""Celery beat with RedBeat: says when a schedule's audit is due, by one message to the housekeeping queue.

What is due is kept in Redis, and a lock there lets one scheduler work; others wait for it. One that ends
releases it; after one that was killed, the next works within `LOCK_SECONDS`. A schedule of which nothing was
told while no scheduler worked is told of once, when one works again.

Beyond RedBeat, a due time

- is published before it is noted as past, so that no time is lost with the scheduler or the broker. What is
  published twice therefore has the same id, from the schedule's name and when it was due before; the task
  knows it by that.
- expires when it is due again, so that a worker that comes back begins one audit, not many.
- comes from the new crontab or interval where that was changed; no time before the change is made up for.

RedBeat writes what the file says when the scheduler starts, before it has the lock: the last one that started
decides, whichever works.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any, ClassVar, Final, cast

import redis
from celery import Celery
from celery.beat import Service
from celery.signals import beat_init
from redbeat import RedBeatScheduler, RedBeatSchedulerEntry
from redbeat.schedulers import LUA_EXTEND_TO_SCRIPT, acquire_distributed_beat_lock, get_redis
from redis.exceptions import LockError

from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.schedules import Schedule
from keyhole.jobs.queues import HOUSEKEEPING
from keyhole.store import keys
from keyhole.store.connection import kind, options

log = logging.getLogger(__name__)

TASK: Final = "keyhole.audit_due"
#: Seconds that a scheduler holds the lock without a sign of life: longer than it waits for a Redis or a
#: broker, shorter than anybody waits for an audit.
LOCK_SECONDS: Final = 30
#: Seconds between two looks at what is due, of the one that works, or at the lock, of those that wait.
LOOK_SECONDS: Final = 1
#: Seconds for an answer of Redis, and how often a command is sent again. Then it waits for the next look.
ANSWER_SECONDS, RETRIES = 5.0, 2
#: A broker drops a connection that is idle for a day, so a second attempt is nothing unusual. Some 3 s.
PUBLISHING: Final = {"max_retries": 3, "interval_start": 0, "interval_step": 1, "interval_max": 2}


def configuration(
    redis_url: str, audits: Iterable[tuple[Schedule, AuditSpec]], lock_seconds: int
) -> dict[str, Any]:  # Celery's settings are of every type
    """Celery's settings for a scheduler, beyond those of `keyhole.app`."""
    return {
        "beat_schedule": {schedule.name: _entry(schedule, spec) for schedule, spec in audits},
        "beat_max_loop_interval": LOOK_SECONDS,
        "redbeat_redis_url": redis_url,
        "redbeat_redis_options": options(redis_url, answer_seconds=ANSWER_SECONDS, retries=RETRIES)
        | {"connection_class": kind(redis_url)},
        # Or RedBeat takes the broker's; those of this URL are among its options.
        "redbeat_redis_use_ssl": False,
        "redbeat_key_prefix": keys.BEAT_PREFIX,
        "redbeat_lock_key": keys.BEAT_LOCK,
        "redbeat_lock_timeout": lock_seconds,
        # No results are kept; without this, beat would have them cleaned up every night.
        "result_expires": None,
    }


def _entry(schedule: Schedule, spec: AuditSpec) -> dict[str, Any]:  # as above
    return {
        "task": TASK,
        "schedule": schedule.when.celery,
        "args": [schedule.name, spec.model_dump(mode="json")],
        "options": {"queue": HOUSEKEEPING, "retry": True, "retry_policy": PUBLISHING},
    }


class Scheduler(RedBeatScheduler):  # type: ignore[misc] # RedBeat has no types
    """RedBeat's scheduler, which loses no due time, and neither gives up nor goes on without the lock."""

    #: RedBeat would give one producer to all publishing, and keep it when its connection is broken.
    _maybe_due_kwargs: ClassVar[Mapping[str, object]] = {}
    #: redis-py's, or `None`: to be taken.
    lock: Any

    def __init__(
        self, *args: object, on_look: Callable[[], object] = lambda: None, **options: object
    ) -> None:
        self._on_look = on_look
        super().__init__(*args, **options)

    def update_from_dict(self, dict_: Mapping[str, Mapping[str, Any]]) -> None:  # as above
        """Write what the file says; what comes at other times than before begins anew."""
        for name, entry in dict_.items():
            try:
                known = self.Entry.from_key(keys.beat_entry(name), app=self.app)
            except KeyError:
                continue
            if known.schedule != self._maybe_entry(name, entry).schedule:
                known.delete()
        super().update_from_dict(dict_)

    def apply_async(self, entry: RedBeatSchedulerEntry, **_: object) -> object:
        """Publish that a schedule is due, then note it."""
        _, seconds = entry.is_due()
        sent = self.send_task(
            entry.task,
            entry.args,
            task_id=_due_id(entry.name, entry.last_run_at),
            expires=max(seconds, 1),
            **entry.options,
        )
        self.reserve(entry)
        return sent

    def tick(self, **options: object) -> float:
        """Look what is due, with the lock. Without a Redis, try again; without the lock, wait for it."""
        self._on_look()
        try:
            if self.lock is None and not self._take_lock():
                return LOOK_SECONDS
            seconds: float = super().tick(**options)
        except LockError as error:
            log.warning("the lock is lost: %s; waiting for it", error)
            self.lock = None
            return 0
        except redis.RedisError as error:
            log.warning("Redis does not answer: %s; trying again", error)
            return LOOK_SECONDS
        return seconds

    def _take_lock(self) -> bool:
        """Take the lock as RedBeat does, but wait for nobody."""
        client = get_redis(self.app)
        lock = client.lock(self.lock_key, timeout=self.lock_timeout)
        # redis-py's script adds to the time that is left; RedBeat's sets it.
        lock.lua_extend = client.register_script(LUA_EXTEND_TO_SCRIPT)
        if not lock.acquire(blocking=False):
            return False
        log.info("this scheduler has the lock, and works")
        self.lock = lock
        return True


# RedBeat waits for the lock when beat starts, without a sign of life. `tick` takes it.
beat_init.disconnect(acquire_distributed_beat_lock)


def _due_id(name: str, due_before: datetime | None) -> str:
    """The id of a time that a schedule is due, from the one before."""
    return blake2b(f"{name} {due_before}".encode(), digest_size=16).hexdigest()


def run(
    app: Celery,
    redis_url: str,
    audits: Iterable[tuple[Schedule, AuditSpec]],
    *,
    on_look: Callable[[], object] = lambda: None,
    lock_seconds: int = LOCK_SECONDS,
) -> None:
    """Say when each audit is due, until interrupted.

    Args:
        app: The application, configured; its broker takes what is due.
        redis_url: Where RedBeat keeps what it knows.
        audits: Schedules, and what each is to begin.
        on_look: Called whenever it looks at what is due, or at the lock: every few seconds.
        lock_seconds: After how long another takes over from a scheduler that was killed.

    Raises:
        redis.RedisError: Redis does not answer at the start or at the end.
    """
    app.conf.update(configuration(redis_url, audits, lock_seconds))
    service = Service(app, scheduler_cls=partial(Scheduler, on_look=on_look))
    try:
        _ = service.scheduler  # made on first use; it writes what the file says
        log.info("schedules: %s", ", ".join(app.conf.beat_schedule))
        if get_redis(app).exists(keys.BEAT_LOCK):
            log.info("another scheduler has the lock; waiting, %s s if that one was killed", lock_seconds)
        service.start()
    except KeyboardInterrupt:
        log.info("interrupted")


@dataclass(frozen=True, slots=True)
class BeatEntry:
    """What schedulers know of a schedule: when it was due last (or first seen), and that it comes so."""

    due_before: datetime
    when: object

    def comes(self, schedule: Schedule) -> bool:
        """Whether it comes when the schedule says."""
        return bool(self.when == schedule.when.celery)


def beat_entry(client: redis.Redis, name: str) -> BeatEntry | None:
    """What schedulers know of a schedule; `None` if none has read of it."""
    found = client.hmget(keys.beat_entry(name), ["definition", "meta"])
    definition, meta = cast("list[bytes | None]", found)  # bytes, as `connect` asks
    if definition is None or meta is None:
        return None
    return BeatEntry(
        RedBeatSchedulerEntry.decode_meta(meta)["last_run_at"],
        RedBeatSchedulerEntry.decode_definition(definition)["schedule"],
    )


def known_names(client: redis.Redis) -> set[str]:
    """The schedules of the file that the last scheduler read when it started."""
    return {name.decode() for name in cast("set[bytes]", client.smembers(keys.BEAT_NAMES))}


def is_at_work(client: redis.Redis) -> bool:
    """Whether a scheduler has the lock."""
    return bool(client.exists(keys.BEAT_LOCK))
