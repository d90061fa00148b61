"""The parts of a run (S3, Valkey, workers, and this process, which submits), and whether they are at rest."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from keyhole.app import app, configure
from keyhole.fleet.services import services, use_settings
from keyhole.fleet.wiring import queue_length
from keyhole.jobs.queues import QUEUES
from keyhole.settings import Settings
from keyhole.store import keys
from tests.e2e import commands
from tests.faults.fleet import Fleet, fleet
from tests.faults.outcome import Plan
from tests.faults.s3_server import FaultyS3, faulty_s3
from tests.faults.valkey import Valkey
from tests.servers.rabbitmq import rabbitmq_server


@contextmanager
def site(plan: Plan) -> Iterator[tuple[FaultyS3, Valkey, Fleet]]:
    logging.getLogger("celery").setLevel(logging.ERROR)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyhole-faults-")))
        logs = plan.logs or folder
        logs.mkdir(parents=True, exist_ok=True)
        s3 = stack.enter_context(faulty_s3())
        valkey = Valkey(folder)
        stack.callback(valkey.end)
        valkey.start()
        values = {
            "redis_url": valkey.url,
            "s3_endpoint_url": s3.url,
            "sinks": "redis,tags",
            **plan.settings,
        }
        env = commands.environment(
            **{f"KEYHOLE_{name.upper()}": value for name, value in values.items()},
            **commands.S3_CREDENTIALS,
        )
        rabbitmq = stack.enter_context(rabbitmq_server()) if plan.rabbitmq else None
        if rabbitmq is not None:
            values["broker_url"] = env["KEYHOLE_BROKER_URL"] = rabbitmq.url()
        settings = Settings.model_validate(values)
        configure(settings)
        use_settings(settings)
        workers = stack.enter_context(
            fleet(env, logs, valkey, rabbitmq, workers=plan.workers, processes=plan.processes)
        )
        yield s3, valkey, workers


def drained() -> bool:
    """Whether every job has ended, so that no job is open or queued.

    Messages that a killed worker did not acknowledge can remain for half an hour. Their redelivery then
    changes nothing.
    """
    return not services().ledger.count() and not any(queue_length(app, queue) for queue in QUEUES)


def at_rest() -> bool:
    """Whether every job has ended, and no tags must still be written or checked again."""
    found = services().redis
    return drained() and not any(found.zcard(keys.debts("tags", part)) for part in ("held", "owed"))


def what_is_left() -> str:
    ledger, found = services().ledger, services().redis
    queued = {queue: queue_length(app, queue) for queue in QUEUES}
    entries = found.hvals(keys.LEDGER_ENTRIES)[:3]
    tags = found.zcard(keys.debts("tags", "held")), found.zcard(keys.debts("tags", "owed"))
    postponed = ledger.count_postponed()
    return f"{ledger.count()} entries, {postponed} postponed; {queued}; tags {tags}; {entries}"
