"""Guesses the media type of an object that is not a disk image, such as a PDF.

The library puremagic guesses the type from the first bytes. Reports show the type to help people. The status
of the object does not depend on it.
"""

from collections.abc import Mapping
from typing import Final

from keyhole.inspectors.facts import Facts
from keyhole.reasons import Reason

#: Bytes that do not occur in text: control characters except tab, line breaks, form feed and escape.
_NO_TEXT: Final = bytes({*range(0x20), 0x7F} - {0x09, 0x0A, 0x0C, 0x0D, 0x1B})


def unrecognized_reason(facts: Facts) -> Reason:
    """Return the reason code for an object in which no format was recognised."""
    if not facts.actual_size:
        return Reason.EMPTY
    if not facts.first_bytes:
        return Reason.NO_KNOWN_FORMAT
    if not any(facts.first_bytes):
        return Reason.ZEROS
    return Reason.NOT_AN_IMAGE if media_type(facts.first_bytes) else Reason.NO_KNOWN_FORMAT


def details(facts: Facts) -> Mapping[str, object]:
    """Return the report details for an object that is not an image: its `mime_type`; empty if unknown."""
    kind = media_type(facts.first_bytes) if facts.format is None else None
    return {"mime_type": kind} if kind else {}


def media_type(front: bytes) -> str | None:
    """Return the media type of an object with these first bytes; `None` if it is unknown."""
    if not any(front):
        return None
    import puremagic  # noqa: PLC0415 - only objects without a format need it

    try:
        # puremagic sorts its matches by confidence, the best one first. Some matches have no media type.
        found = next((match.mime_type for match in puremagic.magic_string(front) if match.mime_type), None)
    except (puremagic.PureError, ValueError):
        found = None
    return found or ("text/plain" if _is_text(front) else None)


def _is_text(front: bytes) -> bool:
    if front.translate(None, _NO_TEXT) != front:
        return False
    try:
        front.decode()
    except UnicodeDecodeError as error:
        # `front` can end in the middle of a UTF-8 character.
        return len(front) - error.start < 4 and error.reason == "unexpected end of data"
    return True
