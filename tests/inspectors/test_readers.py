"""The model of readers, as a short summary."""

from keyhole.inspectors import readers
from keyhole.inspectors.catalogue import NAMES
from keyhole.inspectors.readers import MODEL, Way


def test_each_reader_has_a_source_and_looks_somewhere() -> None:
    assert all(one.source and one.formats and one.front + one.end for one in MODEL)
    names = [(one.name, one.way) for one in MODEL]
    assert len(names) == len(set(names))


def test_every_format_that_is_inspected_has_a_reader_unless_it_is_apples_or_forensic() -> None:
    known = {name for one in MODEL for name in one.formats}
    assert set(NAMES) - known <= {"sparseimage", "asif", "ewf"}


def test_checks_ask_it() -> None:
    assert readers.farthest_front("vmdk", way=Way.TOLD) == readers.VMDK_TEXT_BYTES == 1024 * 1024 - 1
    assert readers.farthest_end("zip") == readers.ZIP_SEARCHED_BYTES > 65_557
    assert readers.farthest_end("dmg") == 1023
    assert readers.farthest_end("qcow2") == readers.farthest_end("no such format") == 0
    assert "unzip" in readers.readers_of("zip")
    assert readers.readers_of("tar", Way.EXTRACTS) == ("GNU tar", "bsdtar", "Python tarfile")
