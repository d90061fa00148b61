"""Cursors: where a listing continues, as short text that another process can use days later."""

from hashlib import blake2b
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from keyhole.intake.errors import ListingError


class Cursor(BaseModel):
    """A place in a listing. Each lister adds the fields that it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the cursor of a text.

        Raises:
            ValueError: The text is not from `write`.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(f"{text!r} is not a cursor of this listing") from error

    def write(self) -> str:
        """Return the cursor as text."""
        return self.model_dump_json(exclude_defaults=True)


class LoopDetectingCursor(Cursor):
    """A place that a server returned, with Brent's algorithm to detect that the server lists in a loop.

    It remembers one place, and replaces it whenever the number of steps has doubled. In a loop of any length,
    the remembered place comes again.
    """

    seen: str = ""
    steps: int = 0
    until: int = 1

    def advance(self, **place: str | None) -> Self:
        """Return the cursor of the next place.

        Raises:
            ListingError: The listing was there before.
        """
        here = blake2b(repr(sorted(place.items())).encode(), digest_size=8).hexdigest()
        if here == self.seen:
            raise ListingError("the server lists in a circle: it leads back to where it was")
        steps = self.steps + 1
        if steps == self.until:
            return self.model_copy(update={**place, "seen": here, "steps": 0, "until": 2 * self.until})
        return self.model_copy(update={**place, "steps": steps})
