"""Files that appear only when they are whole, for code that expects an existing file to be finished."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield the path to write to, and rename it to `path` at the end. If writing fails, nothing is left."""
    draft = path.with_name(f"{path.name}.draft")
    try:
        yield draft
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
