"""`keyhole policy`: shows the profiles, and checks policies."""

import click

from keyhole.cli.completion import complete_files
from keyhole.scan.rules import PROFILES, load_policy, profile_text


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
    """List the profiles that are part of Keyhole."""
    for name in PROFILES:
        click.echo(name)


@policy_command.command("show")
@click.argument("profile", type=click.Choice(PROFILES))
def show_command(*, profile: str) -> None:
    """Print a profile. The comments in the profile name the source of each rule."""
    click.echo(profile_text(profile), nl=False)


@policy_command.command("check")
@click.argument("file", shell_complete=complete_files)
def check_command(*, file: str) -> None:
    """Check whether a policy is valid. Exit code: 0 valid, 2 not valid."""
    policy = load_policy(file)
    rules = len(policy.rules) - 1
    click.echo(f"{policy.name}: valid, {rules} rule{'' if rules == 1 else 's'} in addition to the profile")
