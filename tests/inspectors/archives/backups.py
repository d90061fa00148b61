"""Exports of hypervisors, built from their specifications: XenServer's XVA, Proxmox VE's VMA."""

from collections.abc import Sequence
from struct import pack, pack_into

from keyhole.builders import Image, mbr_disk, tar

MIB = 1024**2
OVA_XML = b"<?xml version='1.0'?><value><struct><member><name>version</name></member></struct></value>"


def xva(disk: Image | None = None, *, folder: str = "Ref:23", digests: str = ".xxhash") -> Image:
    """A virtual machine with a disk in 1 MiB chunks. Chunks of zeros before the last chunk are omitted."""
    content = mbr_disk(8 * MIB, [(0x83, 2048, 8192)]) if disk is None else disk
    entries: list[tuple[str, Image | str]] = [("ova.xml", Image.of(len(OVA_XML), [(0, OVA_XML)]))]
    last = content.size // MIB - 1
    for number in range(last + 1):
        chunk = content.read(number * MIB, MIB)
        if any(chunk) or number in {0, last}:
            name = f"{folder}/{number:08}"
            entries.append((name, Image.of(MIB, [(0, chunk)])))
            entries.append((name + digests, Image.of(16, [(0, b"0123456789abcdef")])))
    return tar(entries)


def vma(sizes: Sequence[int] = (4 * 1024 * MIB,), *, version: int = 1) -> Image:
    """A backup of disks with these sizes: the header, and one extent."""
    header = bytearray(12288 + 512)
    pack_into(">4sI16sq16sIII", header, 0, b"VMA\0", version, bytes(range(16)), 0, b"", 12288, 512, 12800)
    for number, size in enumerate(sizes, 1):
        pack_into(">I4xQ", header, 4096 + 32 * number, 12288 + number, size)
    extent = pack(">4s2xH16s16s", b"VMAE", 1, bytes(range(16)), b"").ljust(512, b"\0")
    return Image.of(MIB, [(0, bytes(header)), (len(header), extent)])
