"""Reads TOML files that users write: policies, prices, schedules. Errors are one-line messages."""

import tomllib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from keyhole.errors import KeyholeError
from keyhole.inspectors.text import printable
from keyhole.small_files import read_small

Model = TypeVar("Model", bound=BaseModel)


class FileError(KeyholeError, ValueError):
    """A user's file cannot be used. The message states the place in the file and what is wrong there.

    The error is also a `ValueError`, so that pydantic reports it for the setting that names the file.
    """

    is_usage = True

    def __init__(self, message: str) -> None:
        super().__init__(printable(message.encode(errors="surrogateescape")))


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
        raise FileError(f"{where} is not TOML: {error}") from None


def parse_as(model: type[Model], text: str, where: str) -> Model:
    """Return the contents of a TOML text as a model. `where` is the name of the text in error messages.

    Raises:
        FileError: The text is not TOML, or does not match the model.
    """
    written = parse(text, where)
    try:
        return model.model_validate(written)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise FileError(f"{where}: {place.removeprefix('.')}: {message}") from None
