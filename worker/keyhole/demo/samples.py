"""The sample objects of the demo: ordinary disk images, and some hostile ones."""

import gzip
from collections.abc import Callable
from typing import NamedTuple

from keyhole.builders import (
    Image,
    OVADisk,
    dmg,
    ewf,
    gpt_disk,
    iso,
    luks2,
    mbr_disk,
    ova,
    qcow2,
    qed,
    tar,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_flat_descriptor,
    vmdk_sparse,
    vmdk_stream_optimized,
    zip_archive,
)
from keyhole.reasons import Status

MIB = 1024**2
GIB = 1024**3
TIB = 1024**4


class Sample(NamedTuple):
    """An object of the demo: its key, the function that builds its image, and its expected status."""

    key: str
    build: Callable[[], Image]
    verdict: Status


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)] if data else [])


def _two_formats() -> Image:
    """Return a qcow2 image that is also a raw disk: its first sector also contains a partition table."""
    return qcow2(GIB, version=2).patched(446, mbr_disk(128 * 1024, [(0x83, 8, 200)]).read(446, 66))


def _hosts_file() -> Image:
    """Return a sparse VMDK whose descriptor names a file of the host as its content."""
    return vmdk_sparse(GIB, create_type="monolithicFlat", extent_line='RW 2097152 FLAT "/etc/shadow" 0')


def _hybrid_disc() -> Image:
    """Return an ISO that also boots from a USB stick: its unused first sector contains a partition table."""
    disc = iso(8192, name="INSTALLER", joliet=True, el_torito=True, rock_ridge=True)
    table = mbr_disk(disc.size, [(0x17, 64, disc.size // 512 - 64)])
    return disc.patched(446, table.read(446, 66))


def _descriptor() -> Image:
    """Return a VMDK descriptor that names two extent files. The second file is a file of the host."""
    return vmdk_flat_descriptor(
        '# Disk DescriptorFile\nversion=1\nCID=6b657968\nparentCID=ffffffff\ncreateType="monolithicFlat"\n\n'
        'RW 1966080 FLAT "web-flat.vmdk" 0\nRW 131072 FLAT "/etc/shadow" 0\n'
    )


def _appliance() -> Image:
    """Return an OVA file with two disks, as VMware exports a virtual machine."""
    disks = [
        OVADisk("disk1.vmdk", vmdk_stream_optimized(20 * GIB, allocated=16), 20 * GIB),
        OVADisk("disk2.vmdk", vmdk_stream_optimized(100 * GIB, allocated=4), 100 * GIB),
    ]
    return ova(disks)


def _linked_appliance() -> Image:
    """Return an OVA file whose second disk is a symbolic link to a file of the host."""
    disks = [
        OVADisk("disk1.vmdk", vmdk_stream_optimized(20 * GIB, allocated=16), 20 * GIB),
        OVADisk("disk2.vmdk", "/etc/shadow", GIB),
    ]
    return ova(disks)


def _for_compute_engine() -> Image:
    """Return an image that Google Compute Engine can import: a gzip-compressed tar archive of `disk.raw`."""
    disk = gpt_disk(48 * MIB)
    return _plain(gzip.compress(tar([("disk.raw", disk)]).to_bytes(), 1, mtime=0))


def _two_archives() -> Image:
    """Return a ZIP archive in which different programs find different disks.

    A program that reads the central directory finds a good disk. A program that reads the archive as a stream
    also finds a disk with a backing file.
    """
    good, hostile = qcow2(GIB), qcow2(GIB, backing_file="/etc/shadow")
    archive = zip_archive([("disk.qcow2", hostile), ("disk.qcow2", good)])
    end = archive.read(archive.size - 22, 22)
    directory = archive.size - 22 - 2 * 56
    one = archive.read(directory + 56, 56)
    number, length = (1).to_bytes(2, "little"), (56).to_bytes(4, "little")
    start = directory.to_bytes(4, "little")
    records = one + end[:8] + 2 * number + length + start + end[20:]
    return archive.truncated(directory).appended(records)


def _bomb() -> Image:
    """Return a decompression bomb: 256 MiB of zeros, compressed with gzip."""
    return _plain(gzip.compress(bytes(8 * MIB), 9, mtime=0) * 32)


SAMPLES: tuple[Sample, ...] = (
    Sample("images/debian-12.qcow2", lambda: qcow2(10 * GIB, allocated=1100), Status.SAFE),
    Sample("images/database.qcow2", lambda: qcow2(2 * TIB, version=2, allocated=64), Status.SAFE),
    Sample("images/windows-server.vhdx", lambda: vhdx(127 * GIB, allocated=3), Status.SAFE),
    Sample("images/azure.vhd", lambda: vhd_fixed(80 * MIB, content=gpt_disk(80 * MIB)), Status.SAFE),
    Sample("images/hyper-v.vhd", lambda: vhd_dynamic(40 * GIB, allocated=8), Status.SAFE),
    Sample("images/esxi.vmdk", lambda: vmdk_sparse(10 * GIB, allocated=64), Status.SAFE),
    Sample("images/export.vmdk", lambda: vmdk_stream_optimized(64 * GIB, allocated=16), Status.SAFE),
    Sample("images/virtualbox.vdi", lambda: vdi(1 * TIB, allocated=96), Status.SAFE),
    Sample("images/appliance.raw", lambda: gpt_disk(96 * MIB), Status.SAFE),
    Sample("images/router.img", lambda: mbr_disk(16 * MIB), Status.SAFE),
    Sample("images/installer.iso", _hybrid_disc, Status.SAFE),
    Sample("images/macos.dmg", lambda: dmg(8 * GIB, allocated=6), Status.SAFE),
    Sample("images/appliance.ova", _appliance, Status.SAFE),
    Sample("images/compute-engine.tar.gz", _for_compute_engine, Status.SAFE),
    Sample("images/appliance.zip", lambda: zip_archive([("disk.raw", gpt_disk(64 * MIB))]), Status.SAFE),
    Sample("images/evidence.E01", lambda: ewf(8 * MIB, allocated=20), Status.SAFE),
    Sample("uploads/a//b c+ü.qcow2", lambda: qcow2(GIB), Status.SAFE),
    Sample("uploads/backing.qcow2", lambda: qcow2(GIB, backing_file="/etc/shadow"), Status.UNSAFE),
    Sample("uploads/data-file.qcow2", lambda: qcow2(GIB, data_file="/dev/sda"), Status.UNSAFE),
    Sample("uploads/host-file.vmdk", _hosts_file, Status.UNSAFE),
    Sample("uploads/descriptor.vmdk", _descriptor, Status.UNSAFE),
    Sample("uploads/backing.qed", lambda: qed(GIB, backing_file="nbd://10.0.0.1/export"), Status.UNSAFE),
    Sample("uploads/linked.ova", _linked_appliance, Status.UNSAFE),
    Sample("uploads/two-archives.zip", _two_archives, Status.UNSAFE),
    Sample("uploads/bomb.raw.gz", _bomb, Status.UNSAFE),
    Sample("uploads/two-formats.img", _two_formats, Status.UNSAFE),
    Sample("uploads/delta.vhd", lambda: vhd_dynamic(GIB, parent_name="base.vhd"), Status.UNSAFE),
    Sample("uploads/cut-off.qcow2", lambda: qcow2(10 * GIB, allocated=64).truncated(2 * MIB), Status.DAMAGED),
    Sample("uploads/cut-off.vdi", lambda: vdi(10 * GIB, allocated=8).truncated(6 * MIB), Status.DAMAGED),
    Sample("uploads/corrupt.qcow2", lambda: qcow2(GIB, incompatible=2), Status.DAMAGED),
    Sample("uploads/encrypted.qcow2", lambda: qcow2(GIB, encryption=1), Status.REJECTED),
    Sample("uploads/secret.luks", lambda: luks2(16 * MIB), Status.REJECTED),
    Sample("uploads/invoice.qcow2", lambda: _plain(b"%PDF-1.7\n" + bytes(4000)), Status.UNRECOGNIZED),
    Sample("uploads/empty.vmdk", lambda: _plain(b""), Status.UNRECOGNIZED),
)
