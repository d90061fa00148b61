"""The command line of `keyhole`. The file of a subcommand is imported only if the subcommand runs."""

import importlib
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from keyhole import __version__, logs
from keyhole.cli.endings import end_on_signals
from keyhole.cli.errors import INTERRUPTED, SOME_NOT_SAFE
from keyhole.cli.failure import report_failure

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class _Command(NamedTuple):
    """The module of a command, and the command's line in the help of `keyhole`.

    The command NAME is the object `keyhole.cli.MODULE.NAME_command`. `help` repeats the first sentence of the
    command's own help text, so that `keyhole --help` need not import the command.
    """

    module: str
    help: str


COMMANDS = {
    "audit": _Command(
        "audit", "Scan all objects of a bucket, or below a prefix, that have no valid verdict."
    ),
    "audits": _Command("audit", "List audits, the latest first."),
    "completion": _Command(
        "completion", "Print the script with which a shell completes commands, options and files."
    ),
    "dashboard": _Command(
        "dashboard", "Show verdicts, audits, workers and dead letters in a browser, until stopped."
    ),
    "dead": _Command(
        "dead", "Show, retry or drop dead letters: messages, jobs, tags and events that failed."
    ),
    "demo": _Command("demo", "Scan sample images, some of them hostile, with real workers."),
    "docs": _Command(
        "docs", "Print a page of the reference: formats, checks, policies, settings, operations and others."
    ),
    "doctor": _Command("doctor", "Check what is configured, reachable and permitted."),
    "explain": _Command("explain", "Explain statuses and reasons: what they mean, and what to do."),
    "inspect": _Command(
        "inspect", "Scan objects in S3 or on web servers, files, or a stream on standard input (-)."
    ),
    "listen": _Command(
        "listen", "Receive S3's events and queue each new object for the workers, until stopped."
    ),
    "plan": _Command(
        "plan",
        "Predict requests, dollars, hours and memory of an audit, without accessing S3 or Redis.",
    ),
    "policy": _Command("policy", "Check policies, and show the profiles."),
    "report": _Command("report", "Write a report of an audit, which may still be running."),
    "results": _Command("results", "List verdicts, the latest first."),
    "scheduler": _Command(
        "scheduler", "Start the audits of KEYHOLE_SCHEDULES when they are due, until stopped."
    ),
    "schedules": _Command(
        "schedules",
        "List the schedules of KEYHOLE_SCHEDULES, with their next run and their last audit.",
    ),
    "show": _Command(
        "results", "Show the verdict on one object, with all findings and the last ten earlier verdicts."
    ),
    "status": _Command(
        "status", "Show the queues, the workers and their work, audits, dead letters, and what is owed."
    ),
    "submit": _Command("submit", "Queue objects for the workers to scan."),
    "verify": _Command("verify", "Compare objects with their verdicts and their tags."),
    "worker": _Command("worker", "Scan queued objects, until stopped."),
}


class LazyGroup(click.Group):
    """A group that imports a command only when the command runs. The group's help imports no command."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        """Import and return the command with this name; `None` if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"keyhole.cli.{COMMANDS[cmd_name].module}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names. If there is none, suggest one."""
        if not ctx.resilient_parsing and args[0] not in COMMANDS and not args[0].startswith("-"):
            from keyhole.cli.hints import for_command

            ctx.fail(f"No such command {args[0]!r}.{for_command(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Return the commands and options that begin with `incomplete`, for the shell's completion."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=COMMANDS[name].help) for name in names]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands in the help, one line for each command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keyhole")
@click.option(
    "--debug",
    is_flag=True,
    envvar="KEYHOLE_DEBUG",
    help="If the command fails, also print the traceback. KEYHOLE_DEBUG=1 does the same.",
)
def keyhole(*, debug: bool) -> None:
    """Find out which format disk images in S3 really have, and whether they are whole and safe.

    \b
    Try it without any setup:         keyhole demo
    Scan one object now:              keyhole inspect s3://bucket/image.qcow2
    Scan many, with a worker queue:   keyhole submit -r s3://bucket/images/
    Check the configuration:          keyhole doctor
    Read the reference:               keyhole docs

    Settings are environment variables; `keyhole docs settings` lists them. Keyhole finds credentials for S3
    in the same places as the AWS command line.
    """
    # Commands report problems in verdicts and in their own error messages, so they log only errors. A worker,
    # a listener and a scheduler later set another level.
    logs.configure("debug" if debug else "error")


def main() -> None:
    """Run the command line.

    Exit codes: 0 all objects are safe, 1 some are not safe, 2 wrong usage, 3 Keyhole could not read an object
    or decide about it.
    """
    # If the terminal closes or a service manager stops the command, the command ends as it does on Ctrl-C.
    # The command then also stops the worker and the Valkey that it has started.
    end_on_signals()
    try:
        code = _run()
        # Python would flush stdout later, and would print a traceback if that fails, for example because the
        # disk is full.
        if sys.stdout is not None:
            sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The program that read our output, for example `head`, has ended. Python would report the same error
        # again when it closes stdout, so remove stdout.
        sys.stdout = None
        sys.exit(SOME_NOT_SAFE)
    except Exception as error:  # noqa: BLE001 - Python would print a traceback and exit with 1: not all are safe
        code = report_failure(error)
        _drop_output()
    sys.exit(code)


def _run() -> int:
    """Run the command, and return its exit code."""
    try:
        keyhole.main(prog_name="keyhole", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def _drop_output() -> None:
    """Remove stdout if what it still holds cannot be written, so that Python does not try again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        sys.stdout = None
