"""What the doctor says of the work: open jobs, dead letters, audits, events, schedules."""

from collections.abc import Iterator

from worker.cli.findings import ADVICE, BAD, GOOD, Finding
from worker.intake.dead_letters import DeadLetters
from worker.services import Services
from worker.settings import Settings

#: A job that is silent for so many times the wait until it is looked after: nobody looks.
UNSWEPT = 15


def of_work(services: Services) -> Iterator[Finding]:
    """What waits, what is given up, what goes on."""
    settings = services.settings
    count, age = services.ledger.count(), services.ledger.oldest_age()
    waiting = f"{count:,} open" + (f", the oldest silent for {age:,.0f} s" if age is not None else "")
    if age is not None and age > UNSWEPT * settings.resend_seconds:
        yield Finding(
            "jobs",
            ADVICE,
            f"{waiting}: they wait for workers, or none serves keyhole.housekeeping and looks after them",
        )
    else:
        yield Finding("jobs", GOOD, waiting)
    owed = services.tag_debts.count()
    if owed:
        yield Finding(
            "tags owed",
            ADVICE,
            f"{owed:,} could not be written yet, and are tried again; `keyhole show` says of an object why",
        )
    dead = DeadLetters(services.redis).count()
    if dead:
        yield Finding("dead letters", ADVICE, f"{dead:,}; look at them by `keyhole dead list`")
    else:
        yield Finding("dead letters", GOOD, "none")
    running = [services.audits.get(audit_id) for audit_id in services.audits.running()]
    troubled = [audit for audit in running if audit is not None and audit.reason]
    for audit in troubled:
        yield Finding("audits", BAD, f"{audit.id} does not get on: {audit.reason}")
    if not troubled:
        yield Finding("audits", GOOD, f"{len(running):,} running" if running else "none running")


def of_confinement(services: Services) -> Finding:
    """How the kernel of this machine confines the processes of a worker."""
    from worker.pool_process import confinement

    words = confinement(services)
    confined = words.startswith("files")
    return Finding("confinement", GOOD if confined else ADVICE, f"of scanning processes here: {words}")


def of_intakes(settings: Settings) -> Iterator[Finding]:
    """Where work comes from, as configured."""
    if settings.events_url is None:
        yield Finding("events", GOOD, "not configured; KEYHOLE_EVENTS_URL names a queue for `keyhole listen`")
    else:
        yield Finding("events", GOOD, "KEYHOLE_EVENTS_URL is set; `keyhole listen --check` looks after it")
    if settings.schedules is not None:
        yield Finding(
            "schedules", GOOD, f"in {settings.schedules}; `keyhole schedules` says whether a scheduler runs"
        )
