"""Computes the horizontal bar at the top of the HTML page, with a coloured part for each kind of objects."""

from collections.abc import Mapping
from typing import Final, NamedTuple

#: The minimum width of a part of the bar, as a percentage of the bar's width, so that every part is visible.
NARROWEST: Final = 0.5
#: The width of one letter of a kind, as a percentage of the bar's width: first on a desktop screen, then on
#: a phone. The page writes a kind into its part of the bar only if the part is wide enough.
LETTER: Final = 0.75
LETTER_ON_PHONE: Final = 2.6


class Part(NamedTuple):
    """The part of the bar for one kind. `start` and `width` are percentages of the bar.

    `room` states on which screens the part is wide enough for the name of its kind: on all screens
    (`always`), on wide screens only (`wide`), or on no screen (`none`).
    """

    kind: str
    start: float
    width: float
    room: str


def bar(counts: Mapping[str, int]) -> list[Part]:
    """Return the parts of the bar, one for each kind of `counts`, in the same order.

    The width of a part is proportional to the number of objects. A part that is narrower than `NARROWEST` is
    widened to `NARROWEST`. Then all parts are scaled so that they fill the bar.
    """
    found = [(kind, count) for kind, count in counts.items() if count]
    widths = [max(NARROWEST, 100 * count / sum(counts.values())) for _, count in found]
    scale = 100 / sum(widths) if widths else 1
    parts, start = [], 0.0
    for (kind, _), drawn in zip(found, widths, strict=True):
        width = drawn * scale
        parts.append(Part(kind, round(start, 3), round(width, 3), _room(kind, width)))
        start += width
    return parts


def _room(kind: str, width: float) -> str:
    letters = len(kind) + 1
    if width > LETTER_ON_PHONE * letters:
        return "always"
    return "wide" if width > LETTER * letters else "none"
