"""Writes reports as JSON: as one array, or as JSON Lines with one object per line.

The output is ASCII, because all other characters are written as JSON escapes. So no key can control a
terminal.
"""

from collections.abc import Iterable, Iterator

from pydantic import BaseModel


def json_array(records: Iterable[BaseModel]) -> Iterator[bytes]:
    """Yield the parts of a JSON array, one record per line."""
    begun = False
    for record in records:
        yield (b",\n" if begun else b"[\n") + _json(record)
        begun = True
    yield b"\n]\n" if begun else b"[]\n"


def json_lines(records: Iterable[BaseModel]) -> Iterator[bytes]:
    """Yield one line of JSON for each record."""
    return (_json(record) + b"\n" for record in records)


def _json(record: BaseModel) -> bytes:
    return record.model_dump_json(ensure_ascii=True).encode("ascii")
