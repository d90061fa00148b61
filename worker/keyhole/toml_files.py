"""Reads TOML files that users write: policies, prices, schedules. Errors are one-line messages."""

import re
import tomllib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from keyhole.errors import KeyholeError
from keyhole.inspectors.text import printable
from keyhole.small_files import read_small

if TYPE_CHECKING:
    from keyhole.toml_problems import Problem

#: The message of the parser about a mistake that is not at the end of the text.
_PLACE: Final = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)

Model = TypeVar("Model", bound=BaseModel)


class FileError(KeyholeError, ValueError):
    """A user's file cannot be used. The message states the place in the file and what is wrong there.

    The error is also a `ValueError`, so that pydantic reports it for the setting that names the file.
    """

    is_usage = True

    def __init__(self, message: str, problems: "Sequence[Problem]" = ()) -> None:
        super().__init__(printable(message.encode(errors="surrogateescape")))
        #: All mistakes in the file, if they were found by comparing it with a model.
        self.problems = tuple(problems)


def read_text(path: str, otherwise: str) -> str:
    """Return the text of a file.

    Args:
        path: The file's path, as the user wrote it.
        otherwise: The end of the error message for a path that is not a readable file, such as `is not a file
            of prices`.

    Raises:
        FileError: The file cannot be read.
    """
    try:
        content, _mode = read_small(path)
        return content.decode().replace("\r\n", "\n")
    except OSError as error:
        raise FileError(f"{path!r} {otherwise}: {error.strerror or error}") from None
    except ValueError as error:
        raise FileError(f"{path!r} {otherwise}: {error}") from None


def parse(text: str, where: str) -> dict[str, Any]:  # TOML has values of any type
    """Return the tables of a TOML text. `where` is the name of the text in error messages.

    Raises:
        FileError: The text is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        at = _PLACE.fullmatch(str(error))
        if at is None:
            raise FileError(f"{where} is not TOML: {error}") from None
        message, line, column = at.groups()
        raise FileError(f"{where}: line {line}: is not TOML: {message} in column {column}") from None


def parse_as(model: type[Model], text: str, where: str) -> Model:
    """Return the contents of a TOML text as a model. `where` is the name of the text in error messages.

    Raises:
        FileError: The text is not TOML, or does not match the model. The message states the first mistake.
            `problems` contains all mistakes.
    """
    written = parse(text, where)
    try:
        return model.model_validate(written)
    except ValidationError as error:
        from keyhole.toml_problems import problems_of  # noqa: PLC0415 - most files have no mistakes

        problems = problems_of(model, error, text)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise FileError(f"{where}: {problems[0]}{more}", problems) from None
