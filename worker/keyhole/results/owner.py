"""The owner of an object: the value of one of the object's tags, such as `team`.

The tags can be unreadable, for example because a permission is missing. The owner is then unknown, which is
not the same as an object without the tag. `keyhole.results.owner_reading` reads the tags.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from keyhole.results.tags import is_own

#: S3's limit of characters in the name of a tag.
_NAME_CHARACTERS: Final = 128
#: S3's limit of characters in the value of a tag. Other servers can accept longer values, which are cut.
_VALUE_CHARACTERS: Final = 256


class Owner(NamedTuple):
    """The owner of an object.

    `name` is the value of the tag; `None` if the object has no such tag, or if its tags could not be read. In
    the latter case, `unknown` states why.
    """

    name: str | None = None
    unknown: str | None = None


def owner_in(tags: Mapping[str, str], tag: str) -> Owner:
    """Return the owner that an object's tags state."""
    name = tags.get(tag)
    return Owner(None if name is None else name[:_VALUE_CHARACTERS])


def parse_owner_tag(text: str) -> str:
    """Return the name of a tag that states owners, unchanged.

    Raises:
        ValueError: No tag has this name, or it is one of Keyhole's own tags.
    """
    if not text or len(text) > _NAME_CHARACTERS:
        raise ValueError(f"the name of a tag has 1 to {_NAME_CHARACTERS} characters")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("the name of a tag is UTF-8")
    if is_own(text):
        raise ValueError(f"{text} is one of Keyhole's own tags, which name no owner")
    return text
