"""Describes each mistake in a TOML file: the line, the place, what is wrong, and what was probably meant."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from keyhole.suggestions import did_you_mean
from keyhole.toml_lines import line_of, line_of_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Problem(NamedTuple):
    """One mistake in a file: its line, if known, the place such as `rules[0].formats[1]`, and a message."""

    line: int | None
    place: str
    message: str

    def __str__(self) -> str:
        """Return the problem in one line."""
        line = f"line {self.line}: " if self.line else ""
        return f"{line}{self.place}: {self.message}" if self.place else f"{line}{self.message}"


def problems_of(model: type[BaseModel], error: ValidationError, text: str) -> tuple[Problem, ...]:
    """Return all mistakes that pydantic found in a TOML text, in the order of their lines."""
    errors = error.errors()
    inside = {one["loc"][:-1] for one in errors}
    # pydantic leaves out wrong entries of an array, and then finds the array too short.
    counted = [one for one in errors if not (one["type"] == "too_short" and one["loc"] in inside)]
    found = [_problem(model, one, text) for one in counted]
    return tuple(sorted(found, key=lambda problem: problem.line or 0))


def _problem(model: type[BaseModel], error: "ErrorDetails", text: str) -> Problem:
    path = [part for part in error["loc"] if part != "[key]"]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    line = line_of(text, path)
    if line is not None and path and isinstance(path[-1], int) and isinstance(error["input"], str):
        line = line_of_text(text, line, error["input"])
    return Problem(line, place.removeprefix("."), _message(model, error, path))


def _message(model: type[BaseModel], error: "ErrorDetails", path: Sequence[int | str]) -> str:
    """Return what is wrong. A misspelled name or value comes with a suggestion."""
    match error["type"]:
        case "extra_forbidden":
            fields = _fields(model, path[:-1])
            return f"is not a setting here{did_you_mean(str(path[-1]), fields) or one_of(fields)}"
        case "missing":
            return "is required"
        case "date_type":
            return "is not a date; write it without quotes, such as 2027-03-31"
        case "enum" | "literal_error":
            known = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
            return error["msg"] + did_you_mean(str(error["input"]), known)
        case _:
            return error["msg"].removeprefix("Value error, ")


def one_of(known: Iterable[str]) -> str:
    """Return the end of an error message that lists the known names."""
    return f"; write one of {', '.join(known)}"


def _fields(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Return the names of the settings in the table at a path."""
    kind: Any = model  # the annotation of the value at the path so far
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:  # an entry of an array, or of a table with names of the user
            kind = [each for each in get_args(kind) if each is not Ellipsis][-1]
    return list(kind.model_fields)
