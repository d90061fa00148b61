"""`keyhole policy`: shows the profiles and policy files, and checks policies."""

import sys
from datetime import UTC, date, datetime

import click

from keyhole.cli.completion import complete_files, complete_policies
from keyhole.cli.errors import USAGE
from keyhole.inspectors.text import shown
from keyhole.scan.policy_text import as_file, remarks, warnings
from keyhole.scan.profile_names import PROFILES, SUMMARIES
from keyhole.scan.rules import Policy, load_policy
from keyhole.toml_files import FileError


@click.group("policy")
def policy_command() -> None:
    """Check policies, and show the profiles.

    \b
    keyhole policy list
    keyhole policy show azure > policy.toml
    keyhole policy check policy.toml
    KEYHOLE_POLICY=policy.toml keyhole worker
    """


@policy_command.command("list")
def list_command() -> None:
    """List the profiles that are part of Keyhole, and what each accepts."""
    width = max(map(len, PROFILES))
    for name in PROFILES:
        click.echo(f"{name.ljust(width)}  {SUMMARIES[name]}")


@policy_command.command("show")
@click.argument("policy", metavar="PROFILE|FILE", shell_complete=complete_policies)
def show_command(*, policy: str) -> None:
    """Print a profile as a policy file, or a policy file with the state of its waivers.

    The comments in a profile name the source of each rule. You can save the output and change it.

    \b
    keyhole policy show gcp
    keyhole policy show azure > policy.toml
    keyhole policy show policy.toml
    """
    loaded = load_policy(policy)
    click.echo(as_file(policy), nl=False)
    for line in remarks(loaded, _today()):
        click.echo(f"# {shown(line)}")


@policy_command.command("check")
@click.argument("policy", metavar="FILE", shell_complete=complete_files)
def check_command(*, policy: str) -> None:
    """Check whether a policy is valid. Exit code: 0 valid, 2 not valid.

    The command prints all mistakes with their lines. It also warns about waivers that have ended, and about
    rules that never apply.

    \b
    keyhole policy check policy.toml
    """
    try:
        loaded = load_policy(policy)
    except FileError as error:
        if len(error.problems) < 2:  # the message of the error is enough
            raise
        for problem in error.problems:
            click.echo(f"Error: {shown(f'{policy}: {problem}')}", err=True)
        sys.exit(USAGE)
    for warning in warnings(loaded, _today()):
        click.echo(f"Warning: {shown(f'{policy}: {warning}')}", err=True)
    click.echo(f"{loaded.name}: valid, {_counted(loaded)}")


def _counted(policy: Policy) -> str:
    """Return the number of rules and waivers in a sentence."""
    rules, waivers = len(policy.rules) - 1, len(policy.waivers)
    text = f"{rules} rule{'' if rules == 1 else 's'} in addition to the profile"
    return f"{text}, {waivers} waiver{'' if waivers == 1 else 's'}" if waivers else text


def _today() -> date:
    return datetime.now(UTC).date()
