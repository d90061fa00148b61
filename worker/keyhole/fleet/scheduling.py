"""The scheduler of audits: Celery beat with RedBeat.

When the audit of a schedule is due, the scheduler publishes a message to the housekeeping queue. The worker
that receives the message starts the audit. Each start is a *run* of the schedule.

RedBeat stores the due times in Redis. Only the scheduler that holds a lock in Redis publishes messages; other
schedulers wait for the lock. A scheduler releases the lock when it ends. If it was killed, another scheduler
acquires the lock within `LOCK_SECONDS`. If a schedule became due while no scheduler was running, the next
scheduler publishes one message for it, even if several runs were missed.

This module changes RedBeat's behaviour in three ways:

- The scheduler publishes a run before it records the run in Redis, so no run is lost if the scheduler or the
  broker fails. The scheduler can therefore publish a run twice. The message's id is derived from the name and
  the last due time of the schedule. So both messages have the same id, and start only one audit.
- The message of a run expires when the schedule is due again. So if no worker runs for a long time, the next
  worker starts one audit, not many.
- If the crontab or interval of a schedule changes, the new one applies at once. Runs that were due before the
  change are not started late.

Known limit: every scheduler writes the schedules of its file to Redis when it starts, before it has the lock.
So if their files differ, the schedules of the scheduler that started last apply, even if another scheduler
holds the lock.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any, ClassVar, Final, cast

import redis
from amqp import AMQPError  # type: ignore[import-untyped] # kombu's driver; it has no types
from celery import Celery
from celery.beat import Service
from celery.signals import beat_init
from kombu.exceptions import OperationalError
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
#: Seconds until the lock expires if its scheduler does not renew it. This time is longer than the scheduler's
#: timeouts for Redis and the broker, so the scheduler does not lose the lock while it waits for a slow
#: server. If the scheduler is killed, audits that are due are delayed by at most this time.
LOCK_SECONDS: Final = 30
#: Seconds between two checks for due schedules, or between two attempts to acquire the lock.
LOOK_SECONDS: Final = 1
#: Seconds to wait for an answer from Redis, and the number of retries of a command. If all retries fail, the
#: scheduler tries again at its next check.
ANSWER_SECONDS, RETRIES = 5.0, 2
#: The number of times that publishing a message is retried, and the pauses in seconds. The first attempt
#: often fails, because brokers close idle connections, and the connection is idle while no audit is due, for
#: example for a day. All pauses together take about 3 s.
PUBLISHING: Final = {"max_retries": 3, "interval_start": 0, "interval_step": 1, "interval_max": 2}


def configuration(
    redis_url: str, audits: Iterable[tuple[Schedule, AuditSpec]], lock_seconds: int
) -> dict[str, Any]:  # Celery's settings have many types
    """Return Celery's settings for a scheduler, in addition to the settings of `keyhole.app`."""
    return {
        "beat_schedule": {schedule.name: _entry(schedule, spec) for schedule, spec in audits},
        "beat_max_loop_interval": LOOK_SECONDS,
        "redbeat_redis_url": redis_url,
        "redbeat_redis_options": options(redis_url, answer_seconds=ANSWER_SECONDS, retries=RETRIES)
        | {"connection_class": kind(redis_url)},
        # Keep RedBeat from using the broker's TLS options. `redbeat_redis_options` contains the TLS options
        # for this URL.
        "redbeat_redis_use_ssl": False,
        "redbeat_key_prefix": keys.BEAT_PREFIX,
        "redbeat_lock_key": keys.BEAT_LOCK,
        "redbeat_lock_timeout": lock_seconds,
        # Keyhole's tasks have no results. Without this setting, beat would publish a task every night to
        # delete old results.
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
    """RedBeat's scheduler, extended: it loses no run, retries forever, and publishes only with the lock."""

    #: The arguments that RedBeat passes to `maybe_due`. By default, RedBeat passes the same producer for
    #: all messages, even after the producer's connection has broken. Without this argument, Celery takes a
    #: producer from its pool for every message.
    _maybe_due_kwargs: ClassVar[Mapping[str, object]] = {}
    #: The lock, as an object of redis-py; `None` if this scheduler does not hold it.
    lock: Any

    def __init__(
        self, *args: object, on_look: Callable[[str], object] = lambda _: None, **options: object
    ) -> None:
        self._on_look = on_look
        #: The names of the due schedules whose last run could not be published.
        self._unpublished: set[str] = set()
        super().__init__(*args, **options)

    def update_from_dict(self, dict_: Mapping[str, Mapping[str, Any]]) -> None:  # as above
        """Write the file's schedules to Redis. First delete each schedule whose recurrence has changed."""
        for name, entry in dict_.items():
            try:
                known = self.Entry.from_key(keys.beat_entry(name), app=self.app)
            except KeyError:
                continue
            if known.schedule != self._maybe_entry(name, entry).schedule:
                known.delete()
        super().update_from_dict(dict_)

    def maybe_due(self, entry: RedBeatSchedulerEntry, **_: object) -> float:
        """Publish a run of a schedule if it is due. Return the seconds until the schedule is due again.

        A failure must not stop the other schedules. The run is then still due at the next check.
        """
        is_due, seconds = entry.is_due()
        if is_due:
            try:
                self.apply_async(entry)
            except (OperationalError, AMQPError) as error:
                log.warning(
                    "the broker did not accept the due run of %s, and the scheduler tries again: %s",
                    *(entry.name, error),
                )
            except Exception:
                log.exception("the due run of %s could not be published", entry.name)
        return float(seconds)

    def apply_async(self, entry: RedBeatSchedulerEntry, **_: object) -> object:
        """Publish a run of a schedule that is due, then record the run in Redis."""
        log.info("schedule %s is due", entry.name)
        _, seconds = entry.is_due()
        self._unpublished.add(entry.name)
        sent = self.send_task(
            entry.task,
            entry.args,
            task_id=_due_id(entry.name, entry.last_run_at),
            expires=max(seconds, 1),
            **entry.options,
        )
        self._unpublished.discard(entry.name)
        self.reserve(entry)
        return sent

    def tick(self, **options: object) -> float:
        """Acquire the lock if this scheduler does not hold it; with the lock, check for due schedules.

        Return the number of seconds until the next call. If Redis fails or another scheduler holds the lock,
        the next call tries again.
        """
        self._on_look(self._trouble())
        try:
            if self.lock is None and not self._take_lock():
                self._unpublished.clear()  # the scheduler that has the lock publishes them
                return LOOK_SECONDS
            seconds: float = super().tick(**options)
        except LockError as error:
            log.warning("this scheduler has lost the lock, and waits until it is free: %s", error)
            self.lock = None
            return 0
        except redis.RedisError as error:
            log.warning("Redis does not answer: %s; trying again", error)
            return LOOK_SECONDS
        return seconds

    def _trouble(self) -> str:
        """Return a text about runs that could not be published; empty if there are none.

        The scheduler is healthy nevertheless, because a restart would not help.
        """
        if not self._unpublished:
            return ""
        first, more = min(self._unpublished), len(self._unpublished) - 1
        if more:
            first += f" and {more} more"
            return f"the broker did not accept the due runs of {first}, so no audit has started; see the log"
        return f"the broker did not accept the due run of {first}, so its audit has not started; see the log"

    def _take_lock(self) -> bool:
        """Try to acquire RedBeat's lock. Unlike RedBeat, do not wait until the lock is free."""
        client = get_redis(self.app)
        lock = client.lock(self.lock_key, timeout=self.lock_timeout)
        # When a lock is extended, redis-py's script adds seconds to the remaining time. RedBeat's script sets
        # the remaining time.
        lock.lua_extend = client.register_script(LUA_EXTEND_TO_SCRIPT)
        if not lock.acquire(blocking=False):
            return False
        log.info("this scheduler has the lock, and publishes runs")
        self.lock = lock
        return True


# When beat starts, RedBeat would wait for the lock without calling `on_look`. The heartbeat of this process
# would then become stale. In this module, `tick` acquires the lock instead.
beat_init.disconnect(acquire_distributed_beat_lock)


def _due_id(name: str, due_before: datetime | None) -> str:
    """Return the id of a schedule's run, derived from the schedule's last due time."""
    return blake2b(f"{name} {due_before}".encode(), digest_size=16).hexdigest()


def run(
    app: Celery,
    redis_url: str,
    audits: Iterable[tuple[Schedule, AuditSpec]],
    *,
    on_look: Callable[[str], object] = lambda _: None,
    lock_seconds: int = LOCK_SECONDS,
) -> None:
    """Publish the runs of all schedules until the process is interrupted.

    Args:
        app: The configured Celery application. Its broker gets the messages.
        redis_url: The URL of the Redis in which RedBeat stores its data.
        audits: The schedules, each with the audit that it starts.
        on_look: Called every few seconds, before each check for due schedules and each attempt to acquire the
            lock. The argument states which due runs could not be published; it is empty if there are none.
        lock_seconds: Seconds after which the lock of a killed scheduler expires.

    Raises:
        redis.RedisError: Redis does not answer when the scheduler starts or ends.
    """
    app.conf.update(configuration(redis_url, audits, lock_seconds))
    service = Service(app, scheduler_cls=partial(Scheduler, on_look=on_look))
    try:
        _ = service.scheduler  # Creating the scheduler writes the schedules to Redis.
        log.info("schedules: %s", ", ".join(app.conf.beat_schedule))
        if get_redis(app).exists(keys.BEAT_LOCK):
            log.info(
                "another scheduler has the lock; waiting until it ends (if it was killed: %s s)", lock_seconds
            )
        service.start()
    except KeyboardInterrupt:
        log.info("interrupted")


@dataclass(frozen=True, slots=True)
class BeatEntry:
    """A schedule as Redis stores it.

    `when` is its recurrence. `due_before` is the time when it was last due; if it was never due, the time
    when it was first stored.
    """

    due_before: datetime
    when: object

    def comes(self, schedule: Schedule) -> bool:
        """Return whether this stored schedule has the same recurrence as a schedule from the file."""
        return bool(self.when == schedule.when.celery)


def beat_entry(client: redis.Redis, name: str) -> BeatEntry | None:
    """Return a schedule from Redis; `None` if no scheduler has stored it yet."""
    found = client.hmget(keys.beat_entry(name), ["definition", "meta"])
    definition, meta = cast("list[bytes | None]", found)  # the client does not decode responses
    if definition is None or meta is None:
        return None
    return BeatEntry(
        RedBeatSchedulerEntry.decode_meta(meta)["last_run_at"],
        RedBeatSchedulerEntry.decode_definition(definition)["schedule"],
    )


def known_names(client: redis.Redis) -> set[str]:
    """Return the names of the schedules in the file of the scheduler that started last."""
    return {name.decode() for name in cast("set[bytes]", client.smembers(keys.BEAT_NAMES))}


def is_at_work(client: redis.Redis) -> bool:
    """Return whether a scheduler holds the lock."""
    return bool(client.exists(keys.BEAT_LOCK))
