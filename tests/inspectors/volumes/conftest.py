"""Volumes of every kind as files, each made once, and what libblkid detects in them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from tests.inspectors.volumes import kept
from tests.inspectors.volumes.built import built
from tests.inspectors.volumes.libblkid import LIBRARY, LibBlkid
from tests.inspectors.volumes.made import CHANGED, MADE, change, make
from tests.inspectors.volumes.views import FileView
from tests.tools import give_up, need
from tests.written import written_whole

MADE_BY_NAME = {made.name: made for made in MADE}
CHANGED_BY_NAME = {changed.name: changed for changed in CHANGED}
BUILT = {name: image for name, _, image in built()}
KEPT = {"zfs": kept.zfs_member, "ceph_bluestore": kept.ceph_bluestore}

#: The type of each volume, by name.
KINDS = {
    **{made.name: made.kind for made in MADE},
    **{changed.name: changed.kind for changed in CHANGED},
    **{name: kind for name, kind, _ in built()},
    "zfs": "zfs_member",
    "ceph_bluestore": "ceph_bluestore",
}


@dataclass(frozen=True)
class Volume:
    """A file with a volume: its type, the file opened for reading and writing, and a view of the file."""

    name: str
    kind: str
    path: Path
    descriptor: int

    @property
    def view(self) -> FileView:
        return FileView(self.descriptor)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        os.pwrite(self.descriptor, data, offset)


class Volumes:
    """All volumes by name. Each volume is made when it is first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tree, self._key = folder / "tree", folder / "key"
        self._tree.mkdir()
        (self._tree / "short").write_text("a short file\n")
        (self._tree / "long").write_bytes(bytes(range(256)) * 300)
        (self._tree / "noise").write_bytes(Random(1).randbytes(20_000))  # noqa: S311 - the same in every run
        self._key.write_bytes(b"a passphrase")
        #: Volumes that cannot be made, because their tool is not installed.
        self._skipped: dict[str, BaseException] = {}

    def path(self, name: str) -> Path:
        """The volume's file, which is made if it does not exist.

        If the tool is not installed, the test is skipped.
        """
        path = self._folder / f"{list(KINDS).index(name)}.img"
        if name in self._skipped:
            raise self._skipped[name]
        if not path.exists():
            try:
                with written_whole(path) as draft:
                    self._make(name, draft)
            except pytest.skip.Exception as skipped:
                self._skipped[name] = skipped
                raise
        return path

    def _make(self, name: str, path: Path) -> None:
        if name in MADE_BY_NAME:
            make(MADE_BY_NAME[name], path, self._tree, self._key)
        elif name in CHANGED_BY_NAME:
            changed = CHANGED_BY_NAME[name]
            change(changed, self.path(changed.of), path)
        elif name in KEPT:
            KEPT[name]().write_to(path)
        else:
            BUILT[name].write_to(path)


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    """All volumes by name, in files that only this test run uses."""
    return Volumes(tmp_path_factory.mktemp("volumes"))


@pytest.fixture
def open_volume(volumes: Volumes) -> Iterator[Callable[[str], Volume]]:
    """Opens a volume by name."""
    opened = []

    def opening(name: str) -> Volume:
        path = volumes.path(name)
        opened.append(os.open(path, os.O_RDWR))
        return Volume(name, KINDS[name], path, opened[-1])

    yield opening
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture(params=KINDS)
def volume(request: pytest.FixtureRequest, open_volume: Callable[[str], Volume]) -> Volume:
    """Each volume in turn."""
    return open_volume(request.param)


@pytest.fixture(scope="session")
def libblkid() -> LibBlkid:
    """libblkid. If it is not installed, the test is skipped; in CI it fails."""
    need("blkid")
    try:
        return LibBlkid()
    except OSError:
        give_up(f"{LIBRARY} is not there: install libblkid1")
