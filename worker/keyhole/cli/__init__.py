"""The command `keyhole`: one file per command, imported when it runs, so that it pays for no other."""

import importlib
import io
import logging
import signal
import sys
from typing import NamedTuple

import click

from keyhole import __version__, logs
from keyhole.cli.errors import INTERRUPTED, UNDECIDED, exit_code_of, first_line
from keyhole.errors import KeyholeError
from keyhole.inspectors.text import escaped_lines, shown
from keyhole.masking import masked


class _Command(NamedTuple):
    """A command NAME is `keyhole.cli.MODULE.NAME_command`; `help` is the first sentence of its own help."""

    module: str
    help: str


COMMANDS = {
    "audit": _Command(
        "audit", "Scan all objects of a bucket, or below a prefix, whose verdict does not stand."
    ),
    "audits": _Command("audit", "List audits, the latest first."),
    "dead": _Command("dead", "Look at what could not be worked on: messages, jobs and tags."),
    "demo": _Command("demo", "Scan sample images, some of them hostile, by real workers."),
    "docs": _Command(
        "docs", "Print a page of the reference: formats, checks, policies, settings, operations and others."
    ),
    "doctor": _Command("doctor", "Say what is configured, reachable and permitted."),
    "inspect": _Command("inspect", "Scan objects in S3, files, or a stream on standard input (-)."),
    "listen": _Command("listen", "Scan what S3 says is new, until told to stop."),
    "policy": _Command("policy", "Check policies, and show the profiles."),
    "report": _Command("report", "Write what an audit found, so far if it still runs."),
    "results": _Command("results", "List verdicts, the latest first."),
    "scheduler": _Command(
        "scheduler", "Begin the audits of KEYHOLE_SCHEDULES when they are due, until told to stop."
    ),
    "schedules": _Command(
        "schedules",
        "List the schedules of KEYHOLE_SCHEDULES: when each is next, and what came of its last audit.",
    ),
    "show": _Command("results", "Show the verdict on one object, with all findings."),
    "submit": _Command("submit", "Queue objects for the workers to scan."),
    "verify": _Command("verify", "Say whether objects, the verdicts on them and their tags agree."),
    "worker": _Command("worker", "Scan what is queued, until told to stop."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for; its help imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        """Return the command of a name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"keyhole.cli.{COMMANDS[cmd_name].module}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for each command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="keyhole")
def keyhole() -> None:
    """Tell what the disk images in S3 really are, and whether they are whole and safe.

    \b
    Try it, without any set-up:   keyhole demo
    One object, at once:          keyhole inspect s3://bucket/image.qcow2
    Many, by a queue of workers:  keyhole submit -r s3://bucket/images/
    What is configured:           keyhole doctor
    The reference:                keyhole docs

    Settings are environment variables; `keyhole docs settings` lists them. Credentials for S3 are found as
    the AWS command line finds them.
    """
    # What goes wrong is in the verdicts and in the command's own error; a worker logs more, by its own
    # settings.
    logs.configure("error")


def main() -> None:
    """Run the command line. Exit codes: 0 all safe, 1 some are not, 2 usage, 3 could not look or decide."""
    # A terminal that closes, or a service manager, ends us like Ctrl-C: everything started is ended.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(ending, _interrupt)
    try:
        keyhole.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        shown_by_click = io.StringIO()
        error.show(shown_by_click)
        click.echo(escaped_lines(masked(shown_by_click.getvalue())), err=True, nl=False)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`). Python would complain once more when it closes stdout.
        sys.stdout = None
        sys.exit(1)
    except KeyholeError as error:
        # One line, and nothing in it that a terminal would obey.
        click.echo(f"Error: {shown(first_line(error))}", err=True)
        sys.exit(exit_code_of(error))
    except Exception:
        # Python would exit with 1, which means that some objects are not safe.
        logging.getLogger(__name__).exception("this is a bug of Keyhole's; please report it")
        sys.exit(UNDECIDED)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
