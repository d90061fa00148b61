"""Inspects archives that have more members than other images have ranges."""

from keyhole.builders import Image
from keyhole.inspectors import Facts, Inspection
from keyhole.scan.plan import merge
from tests.inspectors.inspecting import facts_of

KIB, MIB = 1024, 1024**2
#: How a scan reads: at least this many bytes from a wanted offset, and ranges this close together at once.
AHEAD, GAP = 256 * KIB, MIB
#: More rounds than any archive of a test needs.
MANY = 5000
#: The most bytes held: an archive's own regions, and those of the members that are being inspected.
MOST_HELD = 4 * MIB

__all__ = ["facts_of", "walk"]


def walk(image: Image) -> Facts:
    """The facts about an archive once nothing is missing, read as a scan reads it."""
    inspection = Inspection()
    inspection.finish(image.size)
    for _ in range(MANY):
        wanted = merge(inspection.missing(), GAP)
        if not wanted:
            assert inspection.complete
            return inspection.facts()
        for offset, length in wanted:
            inspection.feed(offset, image.read(offset, max(length, AHEAD)))
            assert sum(inspection.context_info.values()) <= MOST_HELD
    raise AssertionError(f"it never has enough: {inspection.missing()}")
