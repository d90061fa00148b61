"""Draws the page's bar charts with pygal, as SVG that the page's style colours.

pygal puts a style and a script into each chart, which the page's Content Security Policy would forbid. This
module removes both. It names the series by CSS classes, so a chart has the page's colours on a light and on
a dark screen and in print. Each chart is drawn twice, for a wide screen and for a phone, because the text
of a scaled chart would be too small; the style shows one of the two. Assistive technology skips the charts:
each stands beside a table with the same figures.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from markupsafe import Markup

from keyhole.inspectors.text import shown
from keyhole.reports.figures import number, size

#: The widths of the two drawings, in CSS pixels, and the longest label in each, in characters.
_SCREENS: Final = {"wide": (592, 30), "narrow": (350, 15)}
#: The heights of a group of bars, of each bar in it, and of the axis, in CSS pixels.
_GROUP: Final = 12
_BAR: Final = 13
_AXIS: Final = 34
#: The width of a label of the axis.
_MARK: Final = 64
#: The font size of labels, in CSS pixels. The page's style sets the same size.
_FONT: Final = 12
#: The elements of pygal that the page needs, with the attributes that it needs, and pygal's classes.
_KEPT: Final = {
    "g": (),
    "rect": ("x", "y", "width", "height"),
    "path": ("d",),
    "text": ("x", "y"),
}
_CLASSES: Final = {"axis", "x", "y", "guide", "line", "major"}
#: The largest number of bytes that is drawn. The header of an image can state any virtual size.
_LARGEST: Final = 1024**7


class Series(NamedTuple):
    """One series of bars: its CSS class, which is also its name, and a value for each label."""

    name: str
    values: Sequence[int]


def counts(labels: Sequence[str], series: Iterable[Series], *, ends: bool = False) -> Markup:
    """Draw numbers of objects as stacked bars, one for each label.

    If `ends` is true, a label that is too long loses its beginning: the end of a folder tells more.
    """
    return _drawn("HorizontalStackedBar", labels, list(series), bars=1, text=number, ends=ends)


def sizes(labels: Sequence[str], series: Iterable[Series]) -> Markup:
    """Draw numbers of bytes as bars beside each other, on a logarithmic scale in powers of 1024."""
    clamped = [Series(name, [min(value, _LARGEST) for value in values]) for name, values in series]
    largest = max((value for one in clamped for value in one.values), default=1)
    ticks = [1024**power for power in range(8) if 1024**power < 1024 * largest]
    return _drawn("HorizontalBar", labels, clamped, bars=len(clamped), text=size, ticks=ticks)


def _drawn(
    kind: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    bars: int,
    text: Callable[[int], str],
    ticks: Sequence[int] = (),
    ends: bool = False,
) -> Markup:
    height = _AXIS + len(labels) * (_GROUP + bars * _BAR)
    drawn = ""
    for screen, (width, longest) in _SCREENS.items():
        short = [_short(label, longest, ends=ends) for label in labels]
        marks = ticks if len(ticks) * _MARK < width else ticks[::2]
        drawing = _drawing(kind, short, series, (width, height), text, marks)
        drawing.set("class", f"chart {screen}")
        drawn += tostring(drawing, encoding="unicode", short_empty_elements=False)
    return Markup(drawn)  # noqa: S704 - ElementTree escapes all texts


def _drawing(
    kind: str,
    labels: Sequence[str],
    series: Sequence[Series],
    extent: tuple[int, int],
    text: Callable[[int], str],
    ticks: Sequence[int],
) -> Element:
    pygal = _pygal()
    width, height = extent
    chart = getattr(pygal, kind)(
        width=width,
        height=height,
        style=pygal.style.Style(label_font_size=_FONT, major_label_font_size=_FONT),
        js=[],
        margin=2,
        margin_right=24,
        show_legend=False,
        spacing=6,
        truncate_label=-1,
        print_zeroes=False,
        zero=ticks[0] if ticks else 0,
        max_scale=5,
        logarithmic=bool(ticks),
        formatter=lambda value: text(round(value)),
        pretty_print=False,
    )
    if ticks:
        chart.y_labels = [{"value": tick, "label": text(tick)} for tick in ticks]
        chart.range = (ticks[0], ticks[-1])
    chart.x_labels = labels[::-1]  # pygal draws from the bottom
    for one in series:
        chart.add(one.name, [value or None for value in reversed(one.values)])
    return _bare(chart.render_tree(), [one.name for one in series], extent)


@cache
def _pygal() -> ModuleType:
    """Return the module `pygal`, which takes 0.1 s to import. Only pages have charts.

    On import, pygal adds a hook that finds its plugins. Keyhole uses none of them, and the hook lacks
    `find_spec`, so Python 3.11 would warn at every later import. So this function removes the hook.
    """
    pygal = import_module("pygal")
    # Keep the finder of `importlib_metadata`, which pygal imports: without it, Python finds no metadata.
    sys.meta_path[:] = [one for one in sys.meta_path if not type(one).__module__.startswith("pygal")]
    return pygal


def _bare(drawing: Element, names: Sequence[str], extent: tuple[int, int]) -> Element:
    """Return a drawing with only pygal's groups, shapes and labels."""
    width, height = extent
    bare = Element("svg", {"width": str(width), "height": str(height), "aria-hidden": "true"})
    bare.set("viewBox", f"0 0 {width} {height}")
    for plot in drawing.iterfind("g/g[@class='plot']"):
        moved = SubElement(bare, "g", {"transform": plot.get("transform", "")})
        for part in plot:
            _copy(part, moved, names)
    return bare


def _copy(element: Element, parent: Element, names: Sequence[str]) -> None:
    """Add an element to the drawing `parent`, with the attributes and the parts that the page needs."""
    css = (element.get("class") or "").split()
    if element.tag not in _KEPT or "background" in css:
        return
    # A bar of no length has no width.
    kept = {name: element.get(name, "0") for name in _KEPT[element.tag]}
    series = next((one for one in css if one.startswith("color-")), None)
    css = [names[int(series.removeprefix("color-"))]] if series else [one for one in css if one in _CLASSES]
    copy = SubElement(parent, element.tag, kept | ({"class": " ".join(css)} if css else {}))
    copy.text = element.text
    for child in element:
        _copy(child, copy, names)
    value = element.find("desc[@class='value']")
    if value is not None:
        SubElement(copy, "title").text = value.text


def _short(label: str, longest: int, *, ends: bool) -> str:
    """Return a label that fits, without its end or its beginning."""
    seen = shown(label)
    if len(seen) <= longest:
        return seen
    return f"…{seen[1 - longest :]}" if ends else f"{seen[: longest - 1]}…"
