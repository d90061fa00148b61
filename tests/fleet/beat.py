"""Schedulers on a Redis, in the test's process: their settings, state and messages."""

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from celery import Celery
from redbeat.decoder import RedBeatJSONEncoder
from redbeat.schedulers import get_redis

from keyhole import app as application
from keyhole.fleet import scheduling
from keyhole.fleet.scheduling import Scheduler
from keyhole.intake.audits.audit import AuditSpec
from keyhole.intake.schedules import Schedule
from keyhole.jobs.queues import HOUSEKEEPING
from keyhole.settings import Settings
from keyhole.store import keys

QUEUE = f"keyhole:broker:{HOUSEKEEPING}"


@dataclass(frozen=True)
class Message:
    """The message that tells a worker that a schedule is due."""

    task: str
    id: str
    expires: datetime
    name: str
    spec: AuditSpec

    @classmethod
    def of(cls, message: dict[str, Any]) -> "Message":
        """Parse a message from a queue."""
        headers = message["headers"]
        (name, spec), _, _ = json.loads(base64.b64decode(message["body"]))
        expires = datetime.fromisoformat(headers["expires"])
        return cls(headers["task"], headers["id"], expires, name, AuditSpec.model_validate(spec))


class Scheduling:
    """Schedulers on one Redis and one broker. Each has its own application, as in its own process."""

    def __init__(self, client: redis.Redis, url: str) -> None:
        self.client, self.url, self.broker = client, url, url
        self._schedulers: list[Scheduler] = []

    def scheduler(
        self, *schedules: Schedule, lock_seconds: int = 30, on_look: Callable[[str], object] = lambda _: None
    ) -> Scheduler:
        """A scheduler that has read a file with these schedules and does not have the lock yet."""
        app = Celery("keyhole-test", set_as_current=False)
        app.conf.update(
            application.configuration(Settings(redis_url=self.url, broker_url=self.broker))
            | scheduling.configuration(
                self.url,
                [
                    (schedule, schedule.spec(rate=500, outstanding=8, batch_size=100))
                    for schedule in schedules
                ],
                lock_seconds,
            )
        )
        scheduler = Scheduler(app=app, on_look=on_look)
        self._schedulers.append(scheduler)
        return scheduler

    def make_due(self, name: str, before: timedelta = timedelta(days=2)) -> None:
        """Set the last due time of a schedule to this long ago."""
        due_last(self.client, name, datetime.now(UTC) - before)

    def messages(self) -> list[Message]:
        """The published messages, in order."""
        return [Message.of(json.loads(text)) for text in reversed(self.client.lrange(QUEUE, 0, -1))]

    def due(self) -> list[str]:
        """The names of the schedules in the published messages, in order."""
        return [message.name for message in self.messages()]

    def close(self) -> None:
        """Close all schedulers."""
        for scheduler in self._schedulers:
            with suppress(redis.RedisError):
                scheduler.close()
            get_redis(scheduler.app).close()
            scheduler.app.close()


def due_last(client: redis.Redis, name: str, moment: datetime) -> None:
    """Set the time at which a schedule was last due."""
    meta = json.dumps({"last_run_at": moment}, cls=RedBeatJSONEncoder)
    client.hset(keys.beat_entry(name), "meta", meta)
    client.zadd(f"{keys.BEAT_PREFIX}:schedule", {keys.beat_entry(name): 0})
