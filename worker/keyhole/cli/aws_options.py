"""The options `--profile`, `--endpoint-url` and `--region`, which mean the same as those of the AWS command.

The options set environment variables while the command runs. So they also reach the libraries and the worker
that the command starts.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from keyhole.cli.errors import USAGE, CommandError
from keyhole.cli.parsed import parsed
from keyhole.masking import check_no_user
from keyhole.sources.endpoint import checked_endpoint

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])

#: Credentials in these variables would win over a profile in `AWS_PROFILE`. The AWS command ignores them if
#: it is called with `--profile`.
CREDENTIALS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_DEFAULT_PROFILE",
)
#: The key in `click.Context.meta` of the names of the options that were given.
_GIVEN: Final = "keyhole.cli.aws_options"


def aws_options(command: Command) -> Command:
    """Add the options to a command that uses S3. They replace the values from the environment."""
    for option in (
        click.option(
            "--region",
            metavar="NAME",
            expose_value=False,
            callback=_use_region,
            help="The region, such as eu-central-1; as with the AWS command.",
        ),
        click.option(
            "--endpoint-url",
            type=parsed("URL", _endpoint),
            expose_value=False,
            callback=_use_endpoint,
            help="The URL of an S3 server other than AWS; as with the AWS command.",
        ),
        click.option(
            "--profile",
            metavar="NAME",
            expose_value=False,
            callback=_use_profile,
            shell_complete=_complete_profile,
            help="The profile of AWS's configuration with the credentials; as with the AWS command.",
        ),
    ):
        command = option(command)
    return command


def tell_that_workers_differ() -> None:
    """If the command has any of the options, print that workers on other hosts do not know them."""
    context = click.get_current_context(silent=True)
    given = context.meta.get(_GIVEN) if context is not None else None
    if given:
        click.echo(
            f"{' and '.join(given)} {'apply' if len(given) > 1 else 'applies'} only to this command. "
            "Workers use their own settings.",
            err=True,
        )


def _endpoint(text: str) -> str:
    check_no_user(text)
    return checked_endpoint(text)


def _use_region(context: click.Context, option: click.Parameter, name: str | None) -> None:
    if name:
        _use(context, option, {"KEYHOLE_S3_REGION": name})


def _use_endpoint(context: click.Context, option: click.Parameter, url: str | None) -> None:
    if url:
        _use(context, option, {"KEYHOLE_S3_ENDPOINT_URL": url})


def _use_profile(context: click.Context, option: click.Parameter, name: str | None) -> None:
    if name is None or context.resilient_parsing:
        return
    known = _profiles()
    if name not in known:
        which = f"the profiles are {', '.join(known)}" if known else "there is none"
        raise CommandError(f"AWS's configuration has no profile {name!r}; {which}", USAGE)
    _use(context, option, {"AWS_PROFILE": name, **dict.fromkeys(CREDENTIALS)})


def _profiles() -> list[str]:
    """Return the names of all profiles, sorted.

    Raises:
        CommandError: The files of AWS's configuration cannot be read.
    """
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        return sorted(Session().available_profiles)
    except (BotoCoreError, OSError, ValueError) as error:
        raise CommandError(f"AWS's configuration cannot be read: {error}", USAGE) from error


def _complete_profile(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Return the profiles that begin with `incomplete`, for the shell's completion."""
    from click.shell_completion import CompletionItem

    try:
        return [CompletionItem(name) for name in _profiles() if name.startswith(incomplete)]
    except CommandError:
        return []


def _use(context: click.Context, option: click.Parameter, values: Mapping[str, str | None]) -> None:
    """Set environment variables until the command ends. `None` removes a variable."""
    if context.resilient_parsing:
        return
    context.meta.setdefault(_GIVEN, []).append(option.opts[0])
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    context.call_on_close(lambda: _set(before))


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
