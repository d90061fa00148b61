"""Where a listing goes on, as short text: worth the same to another process, days later."""

from hashlib import blake2b
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from keyhole.intake.errors import ListingError


class Cursor(BaseModel):
    """A place in a listing; a lister adds fields for what it needs to know of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def read(cls, text: str) -> Self:
        """The place that a text says.

        Raises:
            ValueError: It is not one that `write` wrote.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(f"{text!r} is not a cursor of this listing") from error

    def write(self) -> str:
        """The place as text."""
        return self.model_dump_json(exclude_defaults=True)


class LoopDetectingCursor(Cursor):
    """A place that a server led to, and the notice that it leads in a circle.

    Brent's way: remember one place, another one each time that the number of steps has doubled; in a circle,
    however long, it comes again.
    """

    seen: str = ""
    steps: int = 0
    until: int = 1

    def advance(self, **place: str | None) -> Self:
        """The place to which these fields lead.

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
