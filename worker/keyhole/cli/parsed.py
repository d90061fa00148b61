"""Makes types of command-line options from parsing functions."""

from collections.abc import Callable
from typing import Any

import click


def parsed(name: str, parse: Callable[[str], Any]) -> "click.types.FuncParamType[str, Any]":
    """Return an option type that parses values with `parse`. A `ValueError` becomes a usage error."""

    def convert(text: str) -> Any:  # noqa: ANN401 - `parse` can return any type
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    kind = click.types.FuncParamType(convert)
    kind.name = name
    return kind
