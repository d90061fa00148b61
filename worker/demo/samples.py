"""The demo's objects: disk images as people upload them, and some that nobody should open."""

from collections.abc import Callable
from typing import NamedTuple

from worker.demo.images import (
    Image,
    gpt_disk,
    mbr_disk,
    qcow2,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_sparse,
    vmdk_stream_optimized,
)
from worker.scan.report import Status

MIB = 1024**2
GIB = 1024**3
TIB = 1024**4


class Sample(NamedTuple):
    """An object of the demo: its key, how to build it, and the verdict that it is there to show."""

    key: str
    build: Callable[[], Image]
    verdict: Status


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)] if data else [])


def _two_formats() -> Image:
    """A qcow2 that is a raw disk as well: a partition table stands behind the header, in its first sector."""
    return qcow2(GIB, version=2).patched(446, mbr_disk(128 * 1024, [(0x83, 8, 200)]).read(446, 66))


def _hosts_file() -> Image:
    """A sparse VMDK whose descriptor says that its content is a file of the host."""
    return vmdk_sparse(GIB, create_type="monolithicFlat", extent_line='RW 2097152 FLAT "/etc/shadow" 0')


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
    Sample("uploads/a//b c+ü.qcow2", lambda: qcow2(GIB), Status.SAFE),
    Sample("uploads/backing.qcow2", lambda: qcow2(GIB, backing_file="/etc/shadow"), Status.UNSAFE),
    Sample("uploads/data-file.qcow2", lambda: qcow2(GIB, data_file="/dev/sda"), Status.UNSAFE),
    Sample("uploads/host-file.vmdk", _hosts_file, Status.UNSAFE),
    Sample("uploads/two-formats.img", _two_formats, Status.UNSAFE),
    Sample("uploads/delta.vhd", lambda: vhd_dynamic(GIB, parent_name="base.vhd"), Status.UNSAFE),
    Sample("uploads/cut-off.qcow2", lambda: qcow2(10 * GIB, allocated=64).truncated(2 * MIB), Status.DAMAGED),
    Sample("uploads/cut-off.vdi", lambda: vdi(10 * GIB, allocated=8).truncated(6 * MIB), Status.DAMAGED),
    Sample("uploads/corrupt.qcow2", lambda: qcow2(GIB, incompatible=2), Status.DAMAGED),
    Sample("uploads/encrypted.qcow2", lambda: qcow2(GIB, encryption=1), Status.REJECTED),
    Sample("uploads/invoice.qcow2", lambda: _plain(b"%PDF-1.7\n" + bytes(4000)), Status.UNRECOGNIZED),
    Sample("uploads/empty.vmdk", lambda: _plain(b""), Status.UNRECOGNIZED),
)
