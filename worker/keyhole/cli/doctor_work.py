"""The doctor's checks of the work: open jobs, dead letters, audits, schedules."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from keyhole.cli.doctor_sinks import of_owed
from keyhole.cli.findings import ADVICE, BAD, GOOD, Finding
from keyhole.fleet.services import Services
from keyhole.inspectors.text import shown
from keyhole.intake.dead_letters import DeadLetters
from keyhole.jobs.lease_length import LEASE_SECONDS
from keyhole.jobs.presence import Presence
from keyhole.jobs.signatures import read_keys
from keyhole.jobs.work_status import MINUTES, WorkStatus
from keyhole.settings import Settings

#: Every ten seconds, a worker sweeps the ledger: the worker looks for lost entries, and sends them to the
#: broker again. If jobs are open and the last sweep was more than this many seconds ago, the doctor gives
#: advice.
UNSWEPT: Final = 60.0


def of_work(services: Services, *, limit: float) -> Iterator[Finding]:
    """Yield findings on jobs, busy processes, failed scans, unwritten tags, dead letters and audits.

    If a process has been busy with one entry of the ledger for more than `limit` seconds, the doctor reports
    that the process hangs. An entry is a group of jobs that one message contains.
    """
    status = WorkStatus(services.redis)
    yield _jobs(status)
    yield from _rulesets(services)
    yield from _sinks(services)
    yield from _busy(status, limit)
    yield from _failures(status)
    owed = services.tag_debts.count()
    if owed:
        yield Finding(
            "tags owed",
            ADVICE,
            f"not written yet for {owed:,} object{'' if owed == 1 else 's'}; workers will retry; "
            "`keyhole show` prints an object's last error",
        )
    yield from of_owed(services)
    dead = DeadLetters(services.redis).count()
    if dead:
        yield Finding("dead letters", ADVICE, f"{dead:,}; list them with `keyhole dead list`")
    else:
        yield Finding("dead letters", GOOD, "none")
    running = [services.audits.get(audit_id) for audit_id in services.audits.running()]
    troubled = [audit for audit in running if audit is not None and audit.reason]
    for audit in troubled:
        yield Finding("audits", BAD, f"{audit.id} makes no progress: {audit.reason}")
    if not troubled:
        yield Finding("audits", GOOD, f"{len(running):,} running" if running else "none running")


def _rulesets(services: Services) -> Iterator[Finding]:
    """Yield a finding if the workers apply different rules, or other rules than these settings state.

    A ruleset consists of the version of Keyhole's rules and the name of the policy.
    """
    workers = _by_statement(Presence(services.redis).rulesets())
    if len(workers) > 1:
        yield Finding(
            "rules",
            ADVICE,
            "workers apply different rules, so a verdict depends on the worker: "
            f"{_in_words(workers)}; run the same version of Keyhole with the same KEYHOLE_POLICY everywhere, "
            "and restart the workers",
        )
    elif workers and services.ruleset not in workers:
        (rules,) = workers
        yield Finding(
            "rules",
            ADVICE,
            f"workers apply {rules}, but these settings state {services.ruleset}; `keyhole submit` and "
            "`keyhole audit` use the policy of the workers, and `keyhole inspect` uses its own",
        )


def _sinks(services: Services) -> Iterator[Finding]:
    """Yield a finding if the workers have different sinks, or other sinks than these settings state."""
    stated = Presence(services.redis).sinks()
    workers = _by_statement(
        {name: None if sinks is None else _sinks_in_words(sinks) for name, sinks in stated.items()}
    )
    own = _sinks_in_words(services.settings.sinks)
    if len(workers) > 1:
        yield Finding(
            "sinks",
            ADVICE,
            "workers have different sinks, so where a verdict goes depends on the worker: "
            f"{_in_words(workers)}; set the same KEYHOLE_SINKS everywhere, and restart the workers",
        )
    elif workers and own not in workers:
        (sinks,) = workers
        yield Finding(
            "sinks",
            ADVICE,
            f"verdicts of the workers go to {sinks}, but these settings state {own}; set the same "
            "KEYHOLE_SINKS for the workers and for commands",
        )


def _by_statement(stated: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Return the names of the workers that state the same, by what they state."""
    workers: dict[str, list[str]] = {}
    for name, statement in stated.items():
        if statement is not None:
            workers.setdefault(statement, []).append(name)
    return workers


def _in_words(workers: Mapping[str, Iterable[str]]) -> str:
    """Return what workers state, each with the names of the workers."""
    return "; ".join(f"{stated} ({', '.join(sorted(names))})" for stated, names in sorted(workers.items()))


def _sinks_in_words(sinks: Iterable[str]) -> str:
    """Return sinks in the form of the setting, always in the same order."""
    return ",".join(sorted(sinks))


def _jobs(status: WorkStatus) -> Finding:
    count, silence, swept = status.count(), status.longest_idle(), status.swept_seconds_ago()
    waiting = f"{count:,} open" + (
        f", the longest without progress for {silence:,.0f} s" if silence is not None else ""
    )
    if not count or (swept is not None and swept < UNSWEPT):
        return Finding("jobs", GOOD, waiting)
    since = (
        "no worker has checked them yet"
        if swept is None
        else f"no worker has checked them for {swept:,.0f} s"
    )
    return Finding(
        "jobs",
        ADVICE,
        f"{waiting}; {since}: start a worker that serves keyhole.housekeeping (the default)",
    )


def _busy(status: WorkStatus, limit: float) -> Iterator[Finding]:
    """Yield findings on the processes that work on jobs, including processes that hang or no longer run."""
    busy = status.busy()
    for process in busy:
        if process.silent_seconds > LEASE_SECONDS:
            silence = f"{process.silent_seconds:,.0f} s"
            told = f"{process.name} works on {process.entries:,} entries, but has been silent for {silence}"
            yield Finding(
                "work in hand", ADVICE, f"{told}: it was killed or is frozen; a worker will send them again"
            )
        elif process.busy_seconds is not None and process.busy_seconds > limit:
            told = f"{process.name} has been busy with an entry for {process.busy_seconds:,.0f} s"
            yield Finding(
                "work in hand",
                BAD,
                f"{told}, but the limit is {limit:g} s: it hangs; restart its worker, and check its log",
            )
    if not busy:
        yield Finding("work in hand", GOOD, "no process is busy")
    else:
        yield Finding(
            "work in hand", GOOD, f"{len(busy):,} {'process is' if len(busy) == 1 else 'processes are'} busy"
        )


def _failures(status: WorkStatus) -> Iterator[Finding]:
    """Yield a finding for each bucket with recent failed scans: the number of failures for each reason."""
    failures = status.failures()
    for bucket, reasons in sorted(failures.items()):
        told = ", ".join(f"{times:,} times {reason}" for reason, times in reasons.most_common())
        yield Finding(
            "failures",
            ADVICE,
            f"s3://{shown(bucket)}/: {told} in the last {MINUTES} minutes; these scans are retried",
        )
    if not failures:
        yield Finding("failures", GOOD, f"none in the last {MINUTES} minutes")


def of_confinement(services: Services) -> Finding:
    """Return a finding on how strictly this machine's kernel can confine the processes of a worker."""
    from keyhole.fleet.pool_process import confinement

    words = confinement(services)
    confined = words.startswith("files")
    return Finding(
        "confinement", GOOD if confined else ADVICE, f"of the scanning processes on this machine: {words}"
    )


def of_guards(settings: Settings) -> Iterator[Finding]:
    """Yield findings on the allowed buckets, and on the signatures of messages."""
    if settings.buckets:
        yield Finding("buckets", GOOD, f"only {', '.join(settings.buckets)}")
    else:
        yield Finding("buckets", GOOD, "all that the credentials can reach; KEYHOLE_BUCKETS limits them")
    if settings.signing_key_file is None:
        unsigned = (
            "not signed, so anyone who can write to the broker can queue jobs; see KEYHOLE_SIGNING_KEY_FILE"
        )
        yield Finding("messages", GOOD, unsigned)
        return
    signs, *others = (key.id for key in read_keys(settings.signing_key_file).keys)
    also = f"; signatures of {others[0]} are accepted, too" if others else ""
    yield Finding("messages", GOOD, f"signed with the key {signs}{also}")


def of_schedules(settings: Settings) -> Iterator[Finding]:
    """Yield a finding on the file of schedules, if it is configured."""
    if settings.schedules is not None:
        yield Finding(
            "schedules", GOOD, f"in {settings.schedules}; `keyhole schedules` says whether a scheduler runs"
        )


def of_policy(settings: Settings) -> Iterator[Finding]:
    """Yield findings on a chosen policy: its name, and advice about waivers and rules."""
    if settings.policy == "default":
        return
    from keyhole.scan.policy_text import warnings
    from keyhole.scan.rules import settled_policy

    policy = settled_policy(settings.policy)
    yield Finding("policy", GOOD, f"{policy.name}; `keyhole policy show` prints it")
    for warning in warnings(policy, datetime.now(UTC).date()):
        yield Finding("policy", ADVICE, warning)
