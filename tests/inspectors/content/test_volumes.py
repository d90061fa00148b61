"""Volumes of all kinds: what they are is what blkid says they are."""

from tests.inspectors.content.conftest import Volume
from tests.inspectors.content.libblkid import LibBlkid, printed_by_blkid
from worker.inspectors.content.volumes import names


def test_a_volume_is_what_blkid_says(volume: Volume, libblkid: LibBlkid) -> None:
    assert names(volume.view) == (volume.kind,)
    assert printed_by_blkid(volume.path) == volume.kind
    assert libblkid.names(volume.descriptor) == (volume.kind,)
