"""Inspects archives that need more ranges than other images."""

from keyhole.builders import Image
from keyhole.inspectors import Facts, Inspection
from keyhole.scan.plan import merge
from tests.inspectors.inspecting import facts_of

KIB, MIB = 1024, 1024**2
#: A scan reads at least this many bytes from a requested offset, and combines ranges that are this close.
AHEAD, GAP = 256 * KIB, MIB
#: More rounds than an archive of the tests needs.
MANY = 5000
#: The maximum number of bytes that an inspection stores: the archive's own regions, and those of its members.
MOST_HELD = 4 * MIB

__all__ = ["facts_of", "walk"]


def walk(image: Image) -> Facts:
    """Return the facts about an archive. The archive is read as a scan reads it."""
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
