"""TOML files that a user writes: policies, prices, schedules. What is wrong with one is told in one line."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from keyhole.errors import KeyholeError
from keyhole.inspectors.text import printable

Model = TypeVar("Model", bound=BaseModel)


class FileError(KeyholeError, ValueError):
    """A file of the user's cannot be used; the message names the place and what is wrong there.

    It is a `ValueError`, too, so that pydantic takes it for the error of the setting that names the file.
    """

    is_usage = True

    def __init__(self, message: str) -> None:
        super().__init__(printable(message.encode(errors="surrogateescape")))


def read_text(path: str, otherwise: str) -> str:
    """Return the text of a file.

    Args:
        path: The file's path, as the user wrote it.
        otherwise: How the error describes a path that cannot be read, such as `is not a file of prices`.

    Raises:
        FileError: It cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise FileError(f"{path!r} {otherwise}: {error}") from None


def parse(text: str, where: str) -> dict[str, Any]:  # TOML has values of any type
    """Return the tables of a TOML text; `where` is what errors call it.

    Raises:
        FileError: It is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileError(f"{where} is not TOML: {error}") from None


def parse_as(model: type[Model], text: str, where: str) -> Model:
    """Return the contents of a TOML text as a model; `where` is what errors call it.

    Raises:
        FileError: It is not TOML, or not valid.
    """
    written = parse(text, where)
    try:
        return model.model_validate(written)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise FileError(f"{where}: {place.removeprefix('.')}: {message}") from None
