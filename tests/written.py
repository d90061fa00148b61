"""Write files so that other code never sees an unfinished file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` at the end. If writing fails, delete it."""
    draft = path.with_name(f"{path.name}.draft")
    try:
        yield draft
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
