"""Celery beat with RedBeat: publishes a message to the housekeeping queue when a schedule's audit is due.

The due times are in Redis. A lock in Redis lets one scheduler work; others wait for it. A scheduler that ends
releases the lock; if it was killed, another one works within `LOCK_SECONDS`. If a schedule was due while no
scheduler worked, it is published once when one works again.

In addition to what RedBeat does, the run of a due schedule

- is published before it is recorded as past, so that a lost scheduler or broker loses no run. If it is
  published twice, both messages have the same id, which is made of the schedule's name and its last due time.
- expires when the schedule is due again, so that a worker that was down starts one audit, not many.
- follows a changed crontab or interval at once; runs that were due before the change are not started late.

RedBeat writes the file's schedules when a scheduler starts, before it has the lock. So the schedules are
those of the scheduler that started last, even if another one has the lock.
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
#: Seconds until the lock of a silent scheduler expires: longer than its timeouts for Redis and the broker,
#: and short enough not to delay an audit much.
LOCK_SECONDS: Final = 30
#: Seconds between two checks for due schedules, or of the lock if another scheduler has it.
LOOK_SECONDS: Final = 1
#: Seconds for an answer from Redis, and retries of a command. After these, the scheduler tries again later.
ANSWER_SECONDS, RETRIES = 5.0, 2
#: Brokers drop connections that are idle for a day, so a retry is usual. All attempts take about 3 s.
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
        # Otherwise RedBeat uses the broker's TLS options. Those of this URL are among its own options.
        "redbeat_redis_use_ssl": False,
        "redbeat_key_prefix": keys.BEAT_PREFIX,
        "redbeat_lock_key": keys.BEAT_LOCK,
        "redbeat_lock_timeout": lock_seconds,
        # Tasks have no results. Without this setting, beat would have results cleaned up every night.
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
    """RedBeat's scheduler, which loses no run, retries forever, and never works without the lock."""

    #: RedBeat would publish all messages by one producer, and keep it when its connection breaks.
    _maybe_due_kwargs: ClassVar[Mapping[str, object]] = {}
    #: A lock of redis-py; `None` if this scheduler does not have it.
    lock: Any

    def __init__(
        self, *args: object, on_look: Callable[[], object] = lambda: None, **options: object
    ) -> None:
        self._on_look = on_look
        super().__init__(*args, **options)

    def update_from_dict(self, dict_: Mapping[str, Mapping[str, Any]]) -> None:  # as above
        """Write the file's schedules. A schedule with a changed time starts afresh."""
        for name, entry in dict_.items():
            try:
                known = self.Entry.from_key(keys.beat_entry(name), app=self.app)
            except KeyError:
                continue
            if known.schedule != self._maybe_entry(name, entry).schedule:
                known.delete()
        super().update_from_dict(dict_)

    def apply_async(self, entry: RedBeatSchedulerEntry, **_: object) -> object:
        """Publish the run of a schedule that is due, then record the run."""
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
        """Check for due schedules, with the lock. Without Redis, try again; without the lock, wait for it."""
        self._on_look()
        try:
            if self.lock is None and not self._take_lock():
                return LOOK_SECONDS
            seconds: float = super().tick(**options)
        except LockError as error:
            log.warning("this scheduler has lost the lock: %s; it waits for it", error)
            self.lock = None
            return 0
        except redis.RedisError as error:
            log.warning("Redis does not answer: %s; trying again", error)
            return LOOK_SECONDS
        return seconds

    def _take_lock(self) -> bool:
        """Take the lock as RedBeat does, but without waiting for it."""
        client = get_redis(self.app)
        lock = client.lock(self.lock_key, timeout=self.lock_timeout)
        # redis-py's script adds to the remaining time; RedBeat's sets it.
        lock.lua_extend = client.register_script(LUA_EXTEND_TO_SCRIPT)
        if not lock.acquire(blocking=False):
            return False
        log.info("this scheduler has the lock, and works")
        self.lock = lock
        return True


# RedBeat waits for the lock when beat starts, without heartbeats. Here, `tick` takes it.
beat_init.disconnect(acquire_distributed_beat_lock)


def _due_id(name: str, due_before: datetime | None) -> str:
    """The id of a schedule's run, made from its last due time."""
    return blake2b(f"{name} {due_before}".encode(), digest_size=16).hexdigest()


def run(
    app: Celery,
    redis_url: str,
    audits: Iterable[tuple[Schedule, AuditSpec]],
    *,
    on_look: Callable[[], object] = lambda: None,
    lock_seconds: int = LOCK_SECONDS,
) -> None:
    """Publish the runs of all schedules, until interrupted.

    Args:
        app: The configured application, whose broker gets the messages.
        redis_url: The Redis for RedBeat.
        audits: Schedules, and the audit that each starts.
        on_look: Called at every check for due schedules or of the lock, every few seconds.
        lock_seconds: Seconds until another scheduler takes over from one that was killed.

    Raises:
        redis.RedisError: Redis does not answer at the start or at the end.
    """
    app.conf.update(configuration(redis_url, audits, lock_seconds))
    service = Service(app, scheduler_cls=partial(Scheduler, on_look=on_look))
    try:
        _ = service.scheduler  # made on first use; it writes the file's schedules
        log.info("schedules: %s", ", ".join(app.conf.beat_schedule))
        if get_redis(app).exists(keys.BEAT_LOCK):
            log.info("another scheduler has the lock; waiting, %s s if that one was killed", lock_seconds)
        service.start()
    except KeyboardInterrupt:
        log.info("interrupted")


@dataclass(frozen=True, slots=True)
class BeatEntry:
    """A schedule as the schedulers have it: when it was last due (or first seen), and its recurrence."""

    due_before: datetime
    when: object

    def comes(self, schedule: Schedule) -> bool:
        """Whether its recurrence is that of a schedule of the file."""
        return bool(self.when == schedule.when.celery)


def beat_entry(client: redis.Redis, name: str) -> BeatEntry | None:
    """Return a schedule as the schedulers have it; `None` if no scheduler has read it yet."""
    found = client.hmget(keys.beat_entry(name), ["definition", "meta"])
    definition, meta = cast("list[bytes | None]", found)  # `connect` asks for bytes
    if definition is None or meta is None:
        return None
    return BeatEntry(
        RedBeatSchedulerEntry.decode_meta(meta)["last_run_at"],
        RedBeatSchedulerEntry.decode_definition(definition)["schedule"],
    )


def known_names(client: redis.Redis) -> set[str]:
    """The names in the file that the last scheduler read when it started."""
    return {name.decode() for name in cast("set[bytes]", client.smembers(keys.BEAT_NAMES))}


def is_at_work(client: redis.Redis) -> bool:
    """Whether a scheduler has the lock."""
    return bool(client.exists(keys.BEAT_LOCK))
