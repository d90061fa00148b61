"""What the doctor says of the work: open jobs, dead letters, audits, schedules."""

from collections.abc import Iterator
from typing import Final

from keyhole.cli.findings import ADVICE, BAD, GOOD, Finding
from keyhole.fleet.services import Services
from keyhole.inspectors.text import shown
from keyhole.intake.dead_letters import DeadLetters
from keyhole.jobs.entry import LEASE_SECONDS
from keyhole.jobs.signatures import read_keys
from keyhole.jobs.work_status import MINUTES, WorkStatus
from keyhole.settings import Settings

#: Seconds without a sweep after which nobody looks after open jobs: workers sweep every ten.
UNSWEPT: Final = 60.0


def of_work(services: Services, *, limit: float) -> Iterator[Finding]:
    """What waits, who is busy, what failed of late, what is given up, what goes on.

    `limit` is how many seconds a process may be at an entry.
    """
    status = WorkStatus(services.redis)
    yield _jobs(status)
    yield from _busy(status, limit)
    yield from _failures(status)
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


def _jobs(status: WorkStatus) -> Finding:
    count, silence, swept = status.count(), status.longest_idle(), status.swept_seconds_ago()
    waiting = f"{count:,} open" + (f", the oldest silent for {silence:,.0f} s" if silence is not None else "")
    if not count or (swept is not None and swept < UNSWEPT):
        return Finding("jobs", GOOD, waiting)
    since = (
        "nobody has looked after them yet"
        if swept is None
        else f"nobody looked after them for {swept:,.0f} s"
    )
    return Finding(
        "jobs",
        ADVICE,
        f"{waiting}; {since}: start a worker that serves keyhole.housekeeping, as all do by default",
    )


def _busy(status: WorkStatus, limit: float) -> Iterator[Finding]:
    """Processes that hold work, and those of them that hang or are lost."""
    busy = status.busy()
    for process in busy:
        if process.silent_seconds > LEASE_SECONDS:
            silence = f"{process.silent_seconds:,.0f} s"
            told = f"{process.name} holds {process.entries:,} entries, and is silent for {silence}"
            yield Finding(
                "work in hand", ADVICE, f"{told}: it was killed or frozen, and a sweep takes them back"
            )
        elif process.busy_seconds is not None and process.busy_seconds > limit:
            told = f"{process.name} has been at an entry for {process.busy_seconds:,.0f} s"
            yield Finding(
                "work in hand",
                BAD,
                f"{told}, and the limit is {limit:g} s: it hangs; restart its worker, and look at its log",
            )
    if not busy:
        yield Finding("work in hand", GOOD, "no process is busy")
    else:
        yield Finding(
            "work in hand", GOOD, f"{len(busy):,} {'process is' if len(busy) == 1 else 'processes are'} busy"
        )


def _failures(status: WorkStatus) -> Iterator[Finding]:
    """Return why scans failed in the last minutes, by bucket."""
    failures = status.failures()
    for bucket, reasons in sorted(failures.items()):
        told = ", ".join(f"{times:,} times {reason}" for reason, times in reasons.most_common())
        yield Finding(
            "failures",
            ADVICE,
            f"s3://{shown(bucket)}/: {told} in the last {MINUTES} minutes; it is tried again",
        )
    if not failures:
        yield Finding("failures", GOOD, f"none in the last {MINUTES} minutes")


def of_confinement(services: Services) -> Finding:
    """How the kernel of this machine confines the processes of a worker."""
    from keyhole.fleet.pool_process import confinement

    words = confinement(services)
    confined = words.startswith("files")
    return Finding("confinement", GOOD if confined else ADVICE, f"of scanning processes here: {words}")


def of_guards(settings: Settings) -> Iterator[Finding]:
    """Which buckets are touched, and whether messages are signed."""
    if settings.buckets:
        yield Finding("buckets", GOOD, f"only {', '.join(settings.buckets)}")
    else:
        yield Finding("buckets", GOOD, "all that the credentials reach; KEYHOLE_BUCKETS names those to touch")
    if settings.signing_key_file is None:
        unsigned = "not signed, so who can write to the broker can queue jobs; see KEYHOLE_SIGNING_KEY_FILE"
        yield Finding("messages", GOOD, unsigned)
        return
    signs, *others = (key.id for key in read_keys(settings.signing_key_file).keys)
    also = f", and those of {others[0]} are taken, too" if others else ""
    yield Finding("messages", GOOD, f"signed with the key {signs}{also}")


def of_schedules(settings: Settings) -> Iterator[Finding]:
    """Which schedules are configured, if any are."""
    if settings.schedules is not None:
        yield Finding(
            "schedules", GOOD, f"in {settings.schedules}; `keyhole schedules` says whether a scheduler runs"
        )
