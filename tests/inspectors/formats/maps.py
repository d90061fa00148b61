"""Inspects images for tests of maps, with the default limits or with limits that read whole maps."""

from keyhole.builders import Image
from keyhole.inspectors import Facts, Inspection
from keyhole.inspectors.inside import Inside
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from keyhole.scan.rules import Rule
from tests.inspectors.inspecting import facts_of

OVERLAP = "metadata_overlap"
PROVEN = Rule(wholeness="proven")


def thorough_facts_of(image: Image) -> Facts:
    """The facts of an inspection that reads whole maps."""
    inspection = Inspection(inside=Inside(thorough=True))
    inspection.finish(image.size)
    for _ in range(4096):
        missing = inspection.missing()
        if not missing:
            return inspection.facts()
        offset, length = missing[0]
        inspection.feed(offset, image.read(offset, length))
    raise AssertionError(f"it never has enough: {inspection.missing()[:3]}")


def overlaps_of(image: Image) -> list[str]:
    """The messages about overlaps in an image.

    They must be the same with the default limits and with whole maps.
    """
    facts, thorough = facts_of(image), thorough_facts_of(image)
    status, reasons = judge(facts)
    assert status is Status.UNSAFE
    assert reasons[0] == OVERLAP
    assert OVERLAP in [finding.check for finding in thorough.findings]
    return [finding.message for finding in facts.findings if finding.check == OVERLAP]


def assert_good(image: Image) -> None:
    """Assert that an image is safe by default, and under a policy that reads whole maps."""
    facts = facts_of(image)
    assert judge(facts) == (Status.SAFE, ())
    thorough = thorough_facts_of(image)
    assert judge(thorough, rule=PROVEN) == (Status.SAFE, ())
    assert (thorough.virtual_size, thorough.findings) == (facts.virtual_size, facts.findings)
