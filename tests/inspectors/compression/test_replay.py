"""The output of decompression reaches the member's inspection only where the inspection needs it."""

import zlib

import pytest

from keyhole.builders import gpt_disk
from keyhole.inspectors import Inspection
from keyhole.inspectors.compression.limits import MIB, Decompression
from keyhole.inspectors.inside import Inside


def test_an_inspection_is_not_called_for_output_that_it_does_not_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disk needs bytes only at its front and at its end."""
    size = 16 * MIB
    data = zlib.compress(gpt_disk(size).to_bytes(), 1, wbits=31)
    offsets = []
    feed = Inspection.feed

    def counting(inspection: Inspection, offset: int, data: bytes) -> None:
        offsets.append(offset)
        feed(inspection, offset, data)

    inspection = Inspection(inside=Inside(decompression=Decompression(output=2 * size)))
    inspection.finish(len(data))
    monkeypatch.setattr(Inspection, "feed", counting)
    while missing := inspection.missing():
        offset, length = missing[0]
        inspection.feed(offset, data[offset : offset + length])

    (member,) = inspection.facts().members
    assert (member.size, member.facts.content) == (size, ("gpt",))
    assert len(offsets) < 10  # of 16 steps, and the pieces of the compressed data
