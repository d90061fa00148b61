"""Cursors: a cursor is a short text that states where a listing continues.

Another process can use the cursor to continue the listing, even days later.
"""

from hashlib import blake2b
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from keyhole.intake.errors import ListingError


class Cursor(BaseModel):
    """A place in a listing. For each lister, a subclass adds the fields that the lister needs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse the text of a cursor.

        Raises:
            ValueError: `write` did not return this text.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(f"{text!r} is not a cursor of this listing") from error

    def write(self) -> str:
        """Return the cursor as text."""
        return self.model_dump_json(exclude_defaults=True)


class LoopDetectingCursor(Cursor):
    """A cursor that contains a token or marker of the server.

    The cursor also detects whether the server lists in a loop.

    The cursor stores a hash of one earlier place. After 1 step, and then after 2, 4, 8 steps and so on, it
    replaces this hash with the hash of the current place (Brent's algorithm). If the server lists in a loop,
    the server sooner or later returns to the place with the stored hash, even if the loop is long.
    """

    seen: str = ""
    steps: int = 0
    until: int = 1

    def advance(self, **place: str | None) -> Self:
        """Return the cursor of the next place.

        Raises:
            ListingError: The server lists in a loop: it returned to the stored place.
        """
        here = blake2b(repr(sorted(place.items())).encode(), digest_size=8).hexdigest()
        if here == self.seen:
            raise ListingError("the server lists in a loop: it returns to a place that it has listed before")
        steps = self.steps + 1
        if steps == self.until:
            return self.model_copy(update={**place, "seen": here, "steps": 0, "until": 2 * self.until})
        return self.model_copy(update={**place, "steps": steps})
