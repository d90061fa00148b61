"""`keyhole scheduler`: starts the audits of schedules when they are due."""

import sys

import click

from keyhole import health, logs
from keyhole.cli.backend import backend
from keyhole.cli.errors import USAGE, CommandError, load_settings, one_line_errors

#: The message of a command that finds no schedules.
NONE_CONFIGURED = (
    "no schedules: set KEYHOLE_SCHEDULES to a file of them; `keyhole schedules --help` shows one"
)


@click.command("scheduler")
@click.option("--check", is_flag=True, help="Check whether the schedulers that run here are well.")
def scheduler_command(*, check: bool) -> None:
    """Start the audits of KEYHOLE_SCHEDULES when they are due, until stopped.

    \b
    KEYHOLE_SCHEDULES=schedules.toml keyhole scheduler
    keyhole scheduler --check                  exit code 0: it is well, 1: it is not

    The scheduler reads the file once, at its start; `keyhole schedules` shows the next runs. Only one
    scheduler is active. Others wait, and take over immediately when it ends, or 30 s after it was killed. If
    an audit was due while no scheduler ran, it is started once when a scheduler runs again. Workers do the
    audits. With nothing configured, the scheduler starts the embedded Valkey and a worker.
    """
    if check:
        sys.exit(health.check("scheduler"))
    settings = load_settings()
    if settings.schedules is None:
        raise CommandError(NONE_CONFIGURED, USAGE)
    with one_line_errors(), backend(settings, work=True, waits=True) as ready:
        from keyhole.app import configure
        from keyhole.fleet import scheduling
        from keyhole.intake.schedules import load_schedules

        logs.configure(ready.log_level)
        schedules = load_schedules(settings.schedules)
        for schedule in schedules:
            ready.allowed_buckets.check(schedule.bucket)
        audits = [
            (
                schedule,
                schedule.spec(
                    rate=ready.audit_rate, outstanding=ready.audit_outstanding, batch_size=ready.batch_size
                ),
            )
            for schedule in schedules
        ]
        heartbeat = health.HeartbeatFile.of_process("scheduler")
        with heartbeat.kept():
            scheduling.run(configure(ready), str(ready.redis_url), audits, on_look=heartbeat.beat)
