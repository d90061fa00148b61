"""The options of commands for their output: `-o`, `--json`, `--wide`, `--quiet` and `--fail-on`.

All commands that show verdicts or audits have the same options, so each form of output (a table, JSON, CSV …)
looks the same in all commands. `--format` always means the format of an image, never the form of the output.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from keyhole.reasons import Status

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: The forms of output, and their descriptions in the help.
FORMS: Final = {
    "table": "for people",
    "json": "one JSON document",
    "jsonl": "one JSON object per line",
    "csv": "for spreadsheets",
    "sarif": "SARIF 2.1.0, for code-scanning viewers",
    "markdown": "for issues and chats",
}
#: The value of `--fail-on` with which no verdict changes the exit code.
NEVER: Final = "never"
#: The value of `--status` that means all statuses except `safe`.
NOT_SAFE: Final = "not-safe"
_CAN_FAIL: Final = frozenset(Status) - {Status.SAFE}


@dataclass(frozen=True, slots=True)
class Output:
    """What the user wants to see. `form` is a key of `FORMS`, or another form of the command."""

    form: str = "table"
    #: Whether a table shows all columns and whole names, even if its lines are longer than the terminal.
    wide: bool = False
    #: Whether progress, summaries and hints are left out.
    quiet: bool = False
    #: The statuses that make the exit code 1; `None` if the user did not choose.
    fail_on: frozenset[Status] | None = None

    @property
    def is_table(self) -> bool:
        """Whether the output is a table for people."""
        return self.form == "table"

    def tell(self, line: str) -> None:
        """Print a hint or a summary on standard error, unless the user wants none."""
        if not self.quiet:
            click.echo(line, err=True)


def output_options(
    *,
    without: tuple[str, ...] = (),
    wide: bool = True,
    fail_on: bool = False,
    json_help: str = "",
    quiet_help: str = "Print no progress, summary or hints.",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options, and passes them to the command as `output`, an `Output`.

    Args:
        without: The forms that the command does not have.
        wide: Whether the command has `--wide`.
        fail_on: Whether the command has `--fail-on`.
        json_help: What `--json` prints; by default, the same as `-o jsonl`.
        quiet_help: What `--quiet` leaves out.
    """
    forms = [form for form in FORMS if form not in without]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def run(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - a command can have any options
            form, as_json = options.pop("form"), options.pop("as_json")
            if as_json and form not in {None, "jsonl"}:
                raise click.UsageError(f"--json means -o jsonl, which contradicts -o {form}")
            output = Output(
                form=form or ("jsonl" if as_json else "table"),
                wide=options.pop("wide", False),
                quiet=options.pop("quiet"),
                fail_on=options.pop("fail_on", None),
            )
            return command(*args, output=output, **options)

        added = [
            click.option(
                "-o",
                "--output",
                "form",
                type=Form(forms),
                help="The form of the output; the default is a table.",
            ),
            click.option("--json", "as_json", is_flag=True, help=json_help or "The same as -o jsonl."),
        ]
        if wide:
            added.append(click.option("--wide", is_flag=True, help="Show all columns and whole names."))
        added.append(click.option("-q", "--quiet", is_flag=True, help=quiet_help))
        if fail_on:
            added.append(
                click.option(
                    "--fail-on",
                    type=Statuses(_CAN_FAIL, NEVER, frozenset(), "a status that can fail"),
                    help="Exit with 1 only if an object has one of these statuses, such as unsafe,damaged; "
                    "`never`: ignore the verdicts.",
                )
            )
        for option in reversed(added):
            run = option(run)
        return run

    return decorate


class Form(click.Choice[str]):
    """The name of a form of output. An error about another name suggests a similar form, or lists all."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return a name that is a form.

        Raises:
            click.BadParameter: There is no such form.
        """
        if value not in self.choices:
            from keyhole.suggestions import did_you_mean

            hint = did_you_mean(value, self.choices) or f"; choose from {', '.join(self.choices)}"
            self.fail(f"{value!r} is not a form of output{hint}", param, ctx)
        return super().convert(value, param, ctx)


class Statuses(click.ParamType[frozenset[Status]]):
    """Statuses, separated by commas, or one word that means certain statuses.

    Args:
        choices: The statuses that can be named.
        word: The word.
        meant: The statuses that the word means.
        kind: What each name must be, for error messages.
    """

    name = "STATUS,…"

    def __init__(
        self, choices: frozenset[Status], word: str, meant: frozenset[Status], kind: str = "a status"
    ) -> None:
        self._names = sorted(status.value for status in choices)
        self._word, self._meant, self._kind = word, meant, kind

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[Status]:
        """Return the statuses in a text.

        Raises:
            click.BadParameter: The text is not a list of statuses.
        """
        names = [name.strip() for name in str(value).split(",")]
        if names == [self._word]:
            return self._meant
        if unknown := [name for name in names if name not in self._names]:
            wrong = f"{unknown[0]!r} is not {self._kind}"
            self.fail(f"{wrong}; choose from {', '.join(self._names)}, or use {self._word}", param, ctx)
        return frozenset(Status(name) for name in names)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - the signature of click
        param: click.Parameter,  # noqa: ARG002 - the same
        incomplete: str,
    ) -> "list[CompletionItem]":
        """Return the statuses that can follow, after those that are already there."""
        from click.shell_completion import CompletionItem

        before, comma, begun = incomplete.rpartition(",")
        chosen = before.split(",")
        names = [*self._names, *([] if comma else [self._word])]
        return [
            CompletionItem(before + comma + name)
            for name in names
            if name.startswith(begun) and name not in chosen
        ]


def status_option() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds `--status`, which the command receives as a set of statuses or `None`."""
    return click.option(
        "--status",
        "statuses",
        type=Statuses(frozenset(Status), NOT_SAFE, _CAN_FAIL),
        help="List only objects with one of these statuses, such as unsafe,damaged; "
        f"`{NOT_SAFE}`: all except safe.",
    )
