"""Inspects a whole image. As a scan does, it feeds the ranges that are missing."""

from keyhole.builders import Image
from keyhole.inspectors import Facts, Inspection


def facts_of(image: Image) -> Facts:
    """Return the facts about an image when nothing is missing."""
    inspection = Inspection()
    inspection.finish(image.size)
    for _ in range(100):
        missing = inspection.missing()
        if not missing:
            return inspection.facts()
        offset, length = missing[0]
        inspection.feed(offset, image.read(offset, length))
    raise AssertionError(f"it never has enough: {inspection.missing()}")


def checks_of(image: Image) -> list[str]:
    """The codes of the checks' findings, in order."""
    return [finding.check for finding in facts_of(image).findings]
