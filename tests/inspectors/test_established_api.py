"""Code that was written for the established streaming inspectors runs with Keyhole unchanged."""

import io
import logging
from collections.abc import Iterator
from unittest import mock

import pytest

from keyhole.builders import qcow2, vmdk_sparse
from keyhole.inspectors import (
    CaptureRegion,
    FileInspector,
    ImageFormatError,
    InfoWrapper,
    QcowInspector,
    TraceDisabled,
    VDIInspector,
    VHDInspector,
    VHDXInspector,
    VMDKInspector,
    get_inspector,
)
from tests.slow import slow

MIB = 1024**2
CHUNKS = [17, 512, 64 * 1024, MIB]


def eat(inspector: FileInspector, data: bytes, chunk_size: int) -> FileInspector:
    wrapper = InfoWrapper(io.BytesIO(data), inspector)
    while wrapper.read(chunk_size):
        pass
    wrapper.close()
    return inspector


def test_get_inspector_knows_the_formats_by_name() -> None:
    expected = {
        "raw": FileInspector,
        "qcow2": QcowInspector,
        "vhd": VHDInspector,
        "vhdx": VHDXInspector,
        "vmdk": VMDKInspector,
        "vdi": VDIInspector,
    }
    assert {name: get_inspector(name) for name in expected} == expected
    assert {str(kind()) for kind in expected.values()} == set(expected)


def test_get_inspector_of_an_unknown_format_is_none() -> None:
    assert get_inspector("foo") is None


def test_the_base_inspector_is_raw_and_matches_everything() -> None:
    inspector = eat(FileInspector(), b"x" * 1000, 64)
    assert str(inspector) == "raw"
    assert inspector.format_match
    assert inspector.virtual_size == inspector.actual_size == 1000
    assert inspector.context_info == {}


def test_an_inspector_that_has_seen_nothing_knows_nothing() -> None:
    for name in ("qcow2", "vhd", "vhdx", "vmdk", "vdi"):
        kind = get_inspector(name)
        assert kind is not None
        assert not kind().format_match
        assert kind().virtual_size == 0
        assert kind().actual_size == 0


def test_a_region_cannot_be_declared_twice() -> None:
    inspector = FileInspector()
    inspector.new_region("header", CaptureRegion(0, 8))
    assert inspector.has_region("header")
    assert not inspector.has_region("footer")
    with pytest.raises(ImageFormatError, match="header"):
        inspector.new_region("header", CaptureRegion(0, 8))


def test_an_inspector_written_for_the_established_api_sees_regions_that_it_declares_late() -> None:
    """A region declared in `post_process` receives the chunk that led to it."""

    class LengthPrefixed(FileInspector):
        def __init__(self, *args: bool, **kwargs: bool) -> None:
            super().__init__(*args, **kwargs)
            self.new_region("length", CaptureRegion(0, 1))

        def post_process(self) -> None:
            if self.region("length").complete and not self.has_region("body"):
                self.new_region("body", CaptureRegion(1, self.region("length").data[0]))

    for chunk_size in (1, 3, 100):
        inspector = eat(LengthPrefixed(), b"\x05hello world", chunk_size)
        assert inspector.region("body").data == b"hello"
        assert inspector.context_info == {"length": 1, "body": 5}


def test_tracing_goes_to_a_logger_only_when_it_is_asked_for() -> None:
    assert isinstance(FileInspector()._log, TraceDisabled)
    assert isinstance(FileInspector(tracing=True)._log, logging.Logger)
    quiet = TraceDisabled()
    for method in (quiet.debug, quiet.info, quiet.warning, quiet.error):
        assert method("swallowed %s", "whole", extra={}) is None


@pytest.mark.parametrize("length", [32, 72, 112, 200, 511])
def test_qcow2_shorter_than_512_bytes_has_its_size(length: int) -> None:
    """32 bytes are enough, even if the caller does not finish the stream."""
    inspector = QcowInspector()
    inspector.eat_chunk(qcow2(513 * MIB).read(0, length))
    assert inspector.format_match
    assert inspector.virtual_size == 513 * MIB


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_vmdk_with_its_descriptor_elsewhere_matches_without_a_size(chunk_size: int) -> None:
    image = vmdk_sparse(10 * MIB).patched(28, (2).to_bytes(8, "little"))
    inspector = eat(VMDKInspector(), image.to_bytes(), chunk_size)
    assert inspector.format_match
    assert inspector.virtual_size == 0


@pytest.mark.parametrize("chunk_size", [slow(CHUNKS[0]), *CHUNKS[1:]])
def test_vmdk_that_claims_a_huge_descriptor_stays_small(chunk_size: int) -> None:
    image = vmdk_sparse(5 * MIB, allocated=80).patched(36, (4096).to_bytes(8, "little"))
    inspector = eat(VMDKInspector(), image.to_bytes(), chunk_size)
    assert inspector.format_match
    assert inspector.virtual_size == 5 * MIB
    assert sum(inspector.context_info.values()) < 1.5 * MIB


@pytest.mark.parametrize("create_type", ["monolithicFlat", "vmfs", "custom", "MONOLITHICSPARSE", ""])
def test_vmdk_of_another_type_matches_without_a_size(create_type: str) -> None:
    inspector = eat(VMDKInspector(), vmdk_sparse(5 * MIB, create_type=create_type).to_bytes(), MIB)
    assert inspector.format_match
    assert inspector.virtual_size == 0


def test_the_wrapper_passes_every_byte_on_as_a_file() -> None:
    data = bytes(range(256)) * 10
    inspector = FileInspector()
    source = io.BytesIO(data)
    wrapper = InfoWrapper(source, inspector)

    assert b"".join(iter(lambda: wrapper.read(100), b"")) == data
    assert inspector.actual_size == len(data)
    wrapper.close()
    assert source.closed


def test_the_wrapper_passes_every_byte_on_as_an_iterator() -> None:
    chunks = [b"abc", b"", b"defg"]
    inspector = FileInspector()
    assert list(InfoWrapper(chunks, inspector)) == chunks
    assert inspector.actual_size == 7


def test_the_wrapper_closes_a_generator() -> None:
    closed = []

    def source() -> Iterator[bytes]:
        try:
            yield b"abc"
        finally:
            closed.append(True)

    wrapper = InfoWrapper(source(), FileInspector())
    next(wrapper)
    wrapper.close()
    assert closed


def test_an_inspector_that_raises_is_logged_once_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    inspector = mock.create_autospec(FileInspector)
    inspector.eat_chunk.side_effect = [None, ValueError("broken")]
    wrapper = InfoWrapper(io.BytesIO(b"0123456789" * 5), inspector)

    assert [wrapper.read(10) for _ in range(6)] == [b"0123456789"] * 5 + [b""]
    assert inspector.eat_chunk.call_count == 2
    assert len(caplog.records) == 1
    inspector.finish.assert_not_called()


def test_the_wrapper_says_when_the_stream_has_ended() -> None:
    inspector = QcowInspector()
    eat(inspector, qcow2(MIB).to_bytes(), 4096)
    assert inspector.complete
    assert inspector.missing() == []


def test_reading_nothing_is_not_the_end_of_the_stream() -> None:
    inspector = mock.create_autospec(FileInspector)
    wrapper = InfoWrapper(io.BytesIO(b"abc"), inspector)
    assert wrapper.read(0) == b""
    inspector.finish.assert_not_called()


def test_an_inspector_that_only_eats_will_do() -> None:
    class Counter:
        total = 0

        def eat_chunk(self, chunk: bytes) -> None:
            self.total += len(chunk)

    counter = Counter()
    assert list(InfoWrapper(iter([b"ab", b"c"]), counter)) == [b"ab", b"c"]
    assert counter.total == 3


def test_vhdx_names_its_guids_as_the_established_class_does() -> None:
    assert VHDXInspector.METAREGION == "8B7CA206-4790-4B9A-B8FE-575F050F886E"
    assert VHDXInspector.VIRTUAL_DISK_SIZE == "2FA54224-CD1B-4876-B211-5DBED83BF4B8"
