"""Selects objects by bucket, glob, suffix and size, or selects a sample of the objects."""

import re
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,9})?) ?(%)?")


class Selection(BaseModel):
    """The criteria of a selection. If a list of globs or suffixes is empty, it excludes no object.

    In a glob, `*` matches all text, including `/`; `?` matches one character, and `[…]` one of several
    characters. `sample` is the fraction of the keys that are selected. A hash of the key decides whether the
    key is selected, so every audit selects the same keys. Sizes are in bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    buckets: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    min_size: int | None = Field(default=None, ge=0)
    max_size: int | None = Field(default=None, ge=0)
    sample: float = Field(default=1.0, gt=0, le=1)

    def matches(self, bucket: str, key: str, size: int | None) -> bool:
        """Return whether an object is selected.

        If the size is unknown, `min_size` and `max_size` do not exclude the object.
        """
        return (
            self.matches_bucket(bucket)
            and (not self.include or any(fnmatchcase(key, glob) for glob in self.include))
            and not (self.exclude and any(fnmatchcase(key, glob) for glob in self.exclude))
            and (not self.suffixes or key.lower().endswith(tuple(suffix.lower() for suffix in self.suffixes)))
            and (self.min_size is None or size is None or size >= self.min_size)
            and (self.max_size is None or size is None or size <= self.max_size)
            and (self.sample == 1 or _share(key) < self.sample)
        )

    def matches_bucket(self, bucket: str) -> bool:
        """Return whether the selection can select objects of this bucket."""
        return not self.buckets or any(fnmatchcase(bucket, glob) for glob in self.buckets)


def parse_share(text: str) -> float:
    """Return a share (above 0, at most 1) from text such as `1%`, `0.5 %` or `0.01`.

    Raises:
        ValueError: The text is not a share. The message contains an example.
    """
    number = _SHARE.fullmatch(text)
    share = float(number[1]) / (100 if number[2] else 1) if number else 0.0
    if not 0 < share <= 1:
        raise ValueError(f"{text!r} is not a share; write a percentage above 0% and up to 100%, such as 1%")
    return share


def _share(key: str) -> float:
    """Return a number between 0 and 1 that is computed from a hash of the key."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
