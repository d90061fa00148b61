"""Ranges of local files."""

import errno
import gc
import io
import os
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import pytest

from keyhole.sources import local
from keyhole.sources.errors import ObjectChangedError, UnreadableError
from keyhole.sources.local import FileSource, open_local
from keyhole.sources.meter import Budget, Meter

BODY = bytes(range(256)) * 8


@pytest.fixture
def meter() -> Meter:
    """A meter with a sufficient budget."""
    return Meter(Budget())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "image"
    path.write_bytes(BODY)
    return path


def test_ranges_are_read_and_counted(file: Path, meter: Meter) -> None:
    source = open_local(file, meter)
    assert source.read(10, 20) == BODY[10:30]
    assert source.read(len(BODY) - 5, 20) == BODY[-5:]
    assert source.read(0, 1 << 20) == BODY
    assert (meter.requests, meter.bytes_read) == (3, 20 + 5 + len(BODY))


def test_size_and_time_are_known(file: Path, meter: Meter) -> None:
    os.utime(file, (1e9, 1e9))
    identity = open_local(file, meter).identity
    assert identity.size == len(BODY)
    assert identity.last_modified
    assert identity.last_modified.timestamp() == 1e9


def test_an_empty_file_is_read_as_nothing(tmp_path: Path, meter: Meter) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert open_local(path, meter).read(0, 512) == b""


def test_the_file_is_closed_when_nobody_reads_it_any_more(
    file: Path, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = io.FileIO(file)
    monkeypatch.setattr(Path, "open", lambda *_, **__: opened)
    source = open_local(file, meter)
    source.read(0, 1)
    del source
    gc.collect()
    assert opened.closed


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "not_found"),
        ("below a file", "not_found"),
        ("directory", "unreadable_file"),
        ("fifo", "unreadable_file"),
        ("character device", "unreadable_file"),
        ("dangling link", "not_found"),
        ("link to itself", "unreadable_file"),
        ("name too long", "unreadable_file"),
        ("name with a zero", "not_found"),
    ],
)
def test_what_is_no_file_is_unreadable(file: Path, meter: Meter, kind: str, reason: str) -> None:
    folder = file.parent
    path = {
        "missing": folder / "missing",
        "below a file": file / "image",
        "directory": folder,
        "fifo": folder / "fifo",
        "character device": Path(os.devnull),
        "dangling link": folder / "dangling",
        "link to itself": folder / "loop",
        "name too long": folder / ("n" * 300),
        "name with a zero": folder / "a\0b",
    }[kind]
    os.mkfifo(folder / "fifo")
    (folder / "dangling").symlink_to("missing")
    (folder / "loop").symlink_to("loop")
    with pytest.raises(UnreadableError) as refused:
        open_local(path, meter)
    assert refused.value.reason == reason


def denied(*_: Any, **__: Any) -> NoReturn:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize("at", ["open", "stat"])
def test_what_may_not_be_read_says_so(
    file: Path, meter: Meter, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    monkeypatch.setattr(Path, at, denied)
    with pytest.raises(UnreadableError, match="Permission denied") as refused:
        open_local(file, meter)
    assert refused.value.reason == "unreadable_file"


def test_a_block_device_is_read(file: Path, meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "S_ISREG", lambda _: False)
    monkeypatch.setattr(local, "S_ISBLK", lambda _: True)
    assert open_local(file, meter).read(0, 3) == BODY[:3]


class Trickle(BytesIO):
    """A file that returns fewer bytes than requested, as raw files can."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 100))


def test_a_file_that_gives_little_at_a_time_is_read_to_the_end_of_a_range(meter: Meter) -> None:
    assert FileSource(Trickle(BODY), meter).read(10, 1000) == BODY[10:1010]


def test_a_file_that_shrinks_has_changed(file: Path, meter: Meter) -> None:
    source = open_local(file, meter)
    os.truncate(file, 100)
    with pytest.raises(ObjectChangedError):
        source.read(50, 100)


class Broken(BytesIO):
    """A file on a medium that cannot be read."""

    def read(self, *_: Any) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_medium_that_cannot_be_read_is_unreadable(meter: Meter) -> None:
    with pytest.raises(UnreadableError, match="Input/output error") as refused:
        FileSource(Broken(BODY), meter).read(0, 1)
    assert refused.value.reason == "unreadable_file"


def test_a_stream_that_cannot_seek_is_unreadable(meter: Meter) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe, pytest.raises(UnreadableError) as refused:
        FileSource(pipe, meter)
    assert refused.value.reason == "unreadable_file"
