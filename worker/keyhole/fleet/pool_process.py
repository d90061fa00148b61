"""Confines the pool processes of a worker, starts their threads, and ends processes that are outdated.

A pool process is confined before its first task, which means that the kernel limits the files and other
resources that the process can use. When a pool process ends, Celery starts another one in its place.

The worker's main process is not confined: it reads no content of images, it starts the pool processes, and it
needs access to more files than the pool processes. A pool that runs in the main process (`--pool solo`,
`--pool threads`) is not confined either.

The threads send events to sinks (`keyhole.fleet.delivering`).

Only workers import this module. A program that submits jobs must not confine its own processes.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from billiard.process import current_process
from celery import current_app
from celery.signals import (
    celeryd_after_setup,
    task_postrun,
    task_prerun,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutdown,
)

from keyhole.api import import_all
from keyhole.confinement.cage import UnconfinedError, confine, why_unconfined
from keyhole.confinement.limits import limit_cpu
from keyhole.confinement.needs import Needs, needs
from keyhole.confinement.stuck import StuckWatch
from keyhole.fleet import traces
from keyhole.fleet.delivering import Deliverer
from keyhole.fleet.inventory_folder import INVENTORIES, SharedFolder
from keyhole.fleet.services import Services, services
from keyhole.jobs.lease_length import LEASE_SECONDS
from keyhole.metrics.recorder import Recorder, recorder, use_recorder

log = logging.getLogger(__name__)

#: The exit codes of a process that must be confined but cannot be, and of a process whose confinement is
#: outdated.
UNCONFINED_EXIT, OUTDATED_EXIT = 71, 72

#: `_allowed` describes the files that this pool process can access; it is `None` if the process is not
#: confined. `_stuck` ends this process if no Python thread of the process could run for `LEASE_SECONDS`. By
#: then, the process's leases have expired, and other workers consider this process lost.
_allowed: Needs | None = None
_stuck: StuckWatch | None = None
#: Sends events from this process; `None` if no sink receives events.
_deliverer: Deliverer | None = None
#: The worker's main process holds this folder.
_inventories = SharedFolder(INVENTORIES)


def scanner_needs(services: Services) -> Needs:
    """Return the files that a pool process with these services needs for its tasks."""
    settings = services.settings
    return needs(
        files=[] if settings.prices is None else [Path(settings.prices)],
        urls=[url for url in (settings.redis_url, settings.broker_url) if url is not None],
        folders=[INVENTORIES],
    )


def confinement(services: Services) -> str:
    """Describe how a worker with these services confines its pool processes on this machine."""
    if services.settings.confine == "off":
        return "off, by KEYHOLE_CONFINE"
    why = why_unconfined(scanner_needs(services))
    return "files (Landlock), privileges and limits" if why is None else f"only limits: {why}"


def _begin_worker(instance: Any, **_: object) -> None:  # noqa: ANN401 - Celery has no types
    """Prepare the start of the pool: import what scans need, and log how the processes will be confined."""
    # A confined process can read few files, and a scan must not wait for an import. So import all modules
    # now.
    import_all()
    with suppress(OSError):  # an audit that needs the folder reports the error
        _inventories.hold()
    if instance.pool_cls.__module__.endswith("prefork"):
        log.info("confinement of the pool's processes: %s", confinement(services()))
    else:
        log.warning("scans are not confined, because the pool runs in the worker's main process")
        _begin_delivering()
        traces.begin()


def _tell_ready(sender: Any, **_: object) -> None:  # noqa: ANN401 - as above
    log.info("the worker %s is ready.", sender.hostname)


def _end_worker(**_: object) -> None:
    """Send what waits, and remove the folder of the inventories if no other worker on this host uses it."""
    _end_process()
    _inventories.release()


def _begin_process(**_: object) -> None:
    """Confine this pool process, and start its threads."""
    global _stuck  # noqa: PLW0603 - each process needs exactly one
    if current_process().name == "MainProcess":
        return
    _stuck = StuckWatch(LEASE_SECONDS)
    _begin_to_count()
    if services().settings.confine != "off":
        _confine()
    # Start the threads last, because a restriction applies only to threads that start after the restriction
    # was set.
    _begin_delivering()
    traces.begin()


def _begin_delivering() -> None:
    """Start the threads that send events, if a sink receives events."""
    global _deliverer  # noqa: PLW0603 - each process needs exactly one
    if services().settings.event_sinks:
        _deliverer = Deliverer(services())
        _deliverer.start()


def _end_process(**_: object) -> None:
    """Send the events that are due now, and the spans that wait."""
    if _deliverer is not None:
        _deliverer.stop()
    traces.end()


def _confine() -> None:
    global _allowed  # noqa: PLW0603 - each process needs exactly one
    settings = services().settings
    # Create the folder that the process writes to if a program that cleans up has removed it. A confined
    # process could not create it.
    with suppress(OSError):
        INVENTORIES.mkdir(mode=0o700, parents=True, exist_ok=True)
    allowed = scanner_needs(services())
    try:
        confine(
            allowed,
            threads=settings.scan_threads,
            memory=settings.memory_bytes,
            required=settings.confine == "required",
        )
    except UnconfinedError as error:
        # Celery would only log an exception, and the process would continue unconfined.
        log.critical("this process ends itself, because KEYHOLE_CONFINE is required: %s", error)
        os._exit(UNCONFINED_EXIT)
    _allowed = allowed


def _begin_to_count() -> None:
    """Open the files of the metrics now, because a confined process cannot open them.

    If this fails, count nothing.
    """
    try:
        recorder().begin_process()
    except OSError:
        log.exception("this process has no metrics, because its files cannot be written")
        use_recorder(Recorder())


def _begin_task(**_: object) -> None:
    """Check the confinement before a task, and limit the task's CPU time."""
    if _allowed is not None:
        replaced = _allowed.replaced()
        if replaced is not None:
            # The task has not begun, so no attempt is lost. Celery gives the task to another process.
            log.warning("this process ends itself: %s was replaced, and the new one is not allowed", replaced)
            os._exit(OUTDATED_EXIT)
        # The limit is the CPU time of a task that uses all cores until its time limit. So a task that
        # observes its time limit never reaches the limit of the CPU time.
        limit_cpu(float(current_app.conf.task_time_limit) * (os.cpu_count() or 1))
    if _stuck is not None:
        _stuck.begin()


def _end_task(**_: object) -> None:
    if _allowed is not None:
        # Remove the limit, because the threads of the process also send events between two tasks.
        limit_cpu(None)
    if _stuck is not None:
        _stuck.end()


celeryd_after_setup.connect(_begin_worker, weak=False)
worker_ready.connect(_tell_ready, weak=False)
worker_shutdown.connect(_end_worker, weak=False)
worker_process_init.connect(_begin_process, weak=False)
worker_process_shutdown.connect(_end_process, weak=False)
task_prerun.connect(_begin_task, weak=False)
task_postrun.connect(_end_task, weak=False)
