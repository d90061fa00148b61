"""Selects objects by bucket, glob, suffix, size, and a random sample."""

import re
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,9})?) ?(%)?")


class Selection(BaseModel):
    """The criteria of a selection. An empty list of globs or suffixes selects all.

    In a glob `*` is any text, `/` included; `?` is one character, `[…]` one of several. `sample` is the
    share of keys to select, by a hash of the key, so that the same keys are selected every time. Sizes are
    in bytes.
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
        """Whether an object is selected. An unknown size passes every limit."""
        return (
            self.matches_bucket(bucket)
            and (not self.include or any(fnmatchcase(key, glob) for glob in self.include))
            and not any(fnmatchcase(key, glob) for glob in self.exclude)
            and (not self.suffixes or key.lower().endswith(tuple(suffix.lower() for suffix in self.suffixes)))
            and (self.min_size is None or size is None or size >= self.min_size)
            and (self.max_size is None or size is None or size <= self.max_size)
            and (self.sample == 1 or _share(key) < self.sample)
        )

    def matches_bucket(self, bucket: str) -> bool:
        """Whether objects of a bucket may be selected."""
        return not self.buckets or any(fnmatchcase(bucket, glob) for glob in self.buckets)


def parse_share(text: str) -> float:
    """Parse a share, above 0 and up to 1: `1%`, `0.5 %` or `0.01`.

    Raises:
        ValueError: The text is not a share; the message has an example.
    """
    number = _SHARE.fullmatch(text)
    share = float(number[1]) / (100 if number[2] else 1) if number else 0.0
    if not 0 < share <= 1:
        raise ValueError(f"{text!r} is not a share; write a percentage above 0% and up to 100%, such as 1%")
    return share


def _share(key: str) -> float:
    """A number from 0 to 1 that is derived from the key."""
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
