"""Prints the manual page of `keyhole`, made from the help texts of all commands and from the settings.

`python deploy/man/make.py > deploy/man/keyhole.1` after a change of a help text or a setting. A test compares
the file with this output.

The page uses the macros of man(7), which all implementations of `man` know.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator

import click

from keyhole.cli import keyhole
from keyhole.settings import Settings

#: The date in the footer. It is not the day of the build, so that two builds are equal.
REVISED = "2026-11-29"
EXIT_CODES = {
    "0": "All objects are safe, or the command succeeded.",
    "1": "Some objects are not safe.",
    "2": "Wrong usage or settings.",
    "3": "Keyhole could not read an object or decide about it, or the command failed.",
}


def page() -> str:
    """Return the text of the manual page."""
    with click.Context(keyhole, info_name="keyhole", **keyhole.context_settings) as context:
        lines = [*_head(context), *_commands(context), *_end()]
    # A mark between paragraphs has no meaning before these marks, and mandoc would warn.
    return re.sub(r"^\.PP\n(?=\.(?:SH|SS|TP|PP)\b)", "", "\n".join(lines), flags=re.MULTILINE) + "\n"


def _head(context: click.Context) -> Iterator[str]:
    summary, _, rest = inspect.cleandoc(str(keyhole.help)).partition("\n\n")
    yield '.\\" Made by deploy/man/make.py. Do not edit.'
    yield f'.TH KEYHOLE 1 {REVISED} "Keyhole" "User Commands"'
    yield ".SH NAME"
    yield f"keyhole \\- {_escaped(_first_lower(' '.join(summary.split())).rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield "\\fBkeyhole\\fR [\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(rest)
    yield ".SH OPTIONS"
    yield from _options(keyhole, context)


def _commands(context: click.Context) -> Iterator[str]:
    yield ".SH COMMANDS"
    for name in keyhole.list_commands(context):
        command = keyhole.get_command(context, name)
        if command is not None:
            yield from _command(command, name, context)


def _command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    with click.Context(command, info_name=name, parent=parent) as context:
        yield f".SS {_escaped(context.command_path)}"
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"\\fB{_escaped(context.command_path)}\\fR {_escaped(usage)}"
        yield ".PP"
        yield from _paragraphs(inspect.cleandoc(command.help or ""))
        yield from _options(command, context)
        if isinstance(command, click.Group):
            for each in command.list_commands(context):
                below = command.get_command(context, each)
                if below is not None:
                    yield from _command(below, each, context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            names, text = record
            yield ".TP"
            yield f"\\fB{_escaped(names)}\\fR"
            yield _text(text)


def _end() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    for code, text in EXIT_CODES.items():
        yield from (".TP", f"\\fB{code}\\fR", _text(text))
    yield ".SH ENVIRONMENT"
    for name, field in Settings.model_fields.items():
        yield from (".TP", f"\\fBKEYHOLE_{name.upper()}\\fR", _text(str(field.description) + "."))
    yield from (".TP", "\\fBKEYHOLE_DEBUG\\fR", _text("1: the same as the option --debug."))
    yield ".PP"
    yield _text("Keyhole finds credentials for S3 in the same variables and files as the AWS command.")
    yield ".SH SEE ALSO"
    yield _text("`keyhole docs` lists the pages of the reference, and `keyhole docs TOPIC` prints one.")


def _paragraphs(text: str) -> Iterator[str]:
    """Return the lines of a help text. As in click, a backspace marks a paragraph whose lines are kept."""
    for paragraph in filter(str.strip, text.split("\n\n")):
        kept = paragraph.startswith("\b\n")
        if kept:
            yield from (".nf", ".RS 4", *map(_escaped, paragraph.splitlines()[1:]), ".RE", ".fi")
        else:
            yield _text(paragraph)
        yield ".PP"


def _text(text: str) -> str:
    """Return a paragraph in short lines. Commands between backquotes become bold."""
    lines = textwrap.wrap(text, 78, break_long_words=False, break_on_hyphens=False)
    # A command can continue in the next line.
    return re.sub(r"`([^`]+)`", r"\\fB\1\\fR", "\n".join(map(_escaped, lines)))


def _escaped(line: str) -> str:
    """Return a line in which no character is a command of roff."""
    line = line.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    line = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in line)
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]


if __name__ == "__main__":
    print(page(), end="")
