"""`keyhole completion`: prints the script with which a shell completes commands, options and files."""

import os
from typing import TYPE_CHECKING, Final

import click

from keyhole.cli.errors import USAGE, CommandError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS: Final = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", required=False, type=click.Choice(SHELLS), metavar="[bash|zsh|fish]")
def completion_command(*, shell: str | None) -> None:
    """Print the script with which a shell completes commands, options and files.

    Without a name, the command prints the script for the shell in $SHELL. To use the script in every new
    shell, add one of these lines to the file in the comment:

    \b
    eval "$(keyhole completion bash)"      # ~/.bashrc
    eval "$(keyhole completion zsh)"       # ~/.zshrc, after compinit
    keyhole completion fish | source       # ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from keyhole.cli import keyhole

    name = shell or os.path.basename(os.environ.get("SHELL", ""))  # noqa: PTH119 - a name, which may be empty
    if name not in SHELLS:
        raise CommandError(f"which shell? write one of: keyhole completion {', '.join(SHELLS)}", USAGE)
    kind = get_completion_class(name)
    if kind is None:  # click has classes for all of these shells
        raise CommandError(f"the library for command lines cannot complete in {name}")
    shell_complete = kind(keyhole, {}, "keyhole", "_KEYHOLE_COMPLETE")
    click.echo(shell_complete.source_template % shell_complete.source_vars())


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Let the shell complete the names of files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def complete_policies(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Return the profiles that begin with a text; if there are none, let the shell complete files."""
    from click.shell_completion import CompletionItem

    from keyhole.scan.profile_names import SUMMARIES

    profiles = [
        CompletionItem(name, help=summary)
        for name, summary in SUMMARIES.items()
        if name.startswith(incomplete)
    ]
    return profiles or complete_files(context, parameter, incomplete)


def complete_formats(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Return the formats of images that begin with a text."""
    from click.shell_completion import CompletionItem

    from keyhole.inspectors.catalogue import NAMES

    return [CompletionItem(name) for name in NAMES if name.startswith(incomplete)]


def complete_reasons(_: click.Context, __: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """Return the codes of reasons that begin with a text."""
    from click.shell_completion import CompletionItem

    from keyhole.inspectors.findings import CHECKS
    from keyhole.reasons import Reason, meaning

    codes = (*CHECKS, *(reason.value for reason in Reason))
    return [CompletionItem(code, help=meaning(code)) for code in codes if code.startswith(incomplete)]
