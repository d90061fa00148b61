"""Images that need a repair: how each is made, and which repair of the table makes it safe."""

from dataclasses import dataclass
from struct import pack
from uuid import UUID

from google_crc32c import value as crc32c

from keyhole.builders import (
    Image,
    gpt_disk,
    mbr_disk,
    qcow2,
    tar,
    vhd_fixed,
    vhd_geometry,
    vhdx,
    vmdk_sparse,
)
from keyhole.reasons import Reason

MIB = 1024**2
#: The name of the file with an intact disk of 8 MiB. Each command line that makes an image can use it.
DISK = "base.raw"
#: The offset of the block table in a VHDX image, and the bits of an L1 entry of qcow2 that are an offset.
BAT, OFFSET = 3 * MIB, 0x00FFFFFFFFFFFE00
#: A member of an archive that leads outside the archive.
OUTSIDE = "../outside"


@dataclass(frozen=True)
class Broken:
    """An image with a finding, and the repair that removes it.

    Args:
        code: The reason of the verdict on the image.
        aim: The aim of the repair, as in the table.
        image: The name of the image's file.
        result: The name of the repaired file.
        made: The image, or the command line that makes it from `DISK`.
        policy: The policy that judges both: a profile, or the text of a policy file.
    """

    code: str
    aim: str
    image: str
    result: str
    made: Image | str
    policy: str = "default"


def _saved() -> Image:
    """A fixed VHD of a suspended machine."""
    return _with_footer(84, b"\1")


def _other_geometry() -> Image:
    """A fixed VHD whose geometry is half of its size."""
    cylinders = vhd_geometry(8 * MIB // 512)[0]
    return _with_footer(56, (cylinders // 2).to_bytes(2, "big"))


def _with_footer(at: int, field: bytes) -> Image:
    """A fixed VHD with another field in its footer, which matches its checksum."""
    image = vhd_fixed(8 * MIB, content=gpt_disk(8 * MIB), creator=b"vpc ")
    footer = bytearray(image.read(8 * MIB, 512))
    footer[at : at + len(field)] = field
    footer[64:68] = bytes(4)
    footer[64:68] = (~sum(footer) & 0xFFFFFFFF).to_bytes(4, "big")
    return image.patched(8 * MIB, bytes(footer))


def _with_log() -> Image:
    """A VHDX with a log of one entry, which writes a sector of the block table again."""
    guid = UUID(int=5)
    image = vhdx(8 * MIB, allocated=1, log_guid=guid)
    log = int.from_bytes(image.read(64 * 1024 + 72, 8), "little")
    sector = image.read(BAT, 4096)
    descriptor = pack("<4s4s8sQQ", b"desc", sector[-4:], sector[:8], BAT, 1)
    data = pack("<4sI", b"data", 0) + sector[8:-4] + pack("<I", 1)

    def entry(checksum: int) -> bytes:
        sizes = (image.size, image.size)
        header = pack("<4s3IQ2I16s2Q", b"loge", checksum, 8192, 0, 1, 1, 0, guid.bytes_le, *sizes)
        return (header + descriptor).ljust(4096, b"\0") + data

    return image.patched(log, entry(crc32c(entry(0))))


def _shared_cluster() -> Image:
    """A qcow2 image in which two clusters of the disk are at the same place."""
    image = qcow2(8 * MIB, allocated=2)
    table = int.from_bytes(image.read(int.from_bytes(image.read(40, 8), "big"), 8), "big") & OFFSET
    return image.patched(table + 8, image.read(table, 8))


def _two_formats() -> Image:
    """A qcow2 image with a partition table in its first sector."""
    table = mbr_disk(128 * 1024, [(0x83, 8, 200)]).read(446, 66)
    return qcow2(8 * MIB, version=2, allocated=2).patched(446, table)


def _many_members() -> Image:
    """A tar archive with a disk and more folders than Keyhole inspects."""
    other = [(f"{number:05}.raw", mbr_disk(4096)) for number in range(1100)]
    return tar([*other, ("disk.raw", gpt_disk(4 * MIB))])


QCOW2 = "qemu-img convert -f raw -O qcow2 base.raw"
BROKEN = (
    Broken(
        "backing_file",
        "Write a new image that contains everything",
        "image.qcow2",
        "flat.qcow2",
        f"{QCOW2} base.qcow2; qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 image.qcow2",
    ),
    Broken(
        "backing_file",
        "Or copy the backing file's sectors into the image itself",
        "image.qcow2",
        "image.qcow2",
        f"{QCOW2} base.qcow2; qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 image.qcow2",
    ),
    Broken(
        "data_file",
        "Join a qcow2 image and its data file",
        "image.qcow2",
        "joined.qcow2",
        "qemu-img convert -f raw -O qcow2 -o data_file=image.data base.raw image.qcow2",
    ),
    Broken(
        "data_file",
        "Join the segments image.E01, image.E02 and so on into a raw image",
        "image.E01",
        "joined.raw",
        "head -c 4M /dev/urandom | dd of=base.raw bs=1M seek=2 conv=notrunc status=none; "
        "ewfacquire -q -u -t image -f encase6 -c deflate:none -S 1MiB base.raw",
    ),
    Broken(
        "parent_image",
        "Merge a VMDK image and its parent, which is in the same folder",
        "image.vmdk",
        "merged.vmdk",
        "qemu-img convert -f raw -O vmdk base.raw base.vmdk; "
        "qemu-img create -q -f vmdk -b base.vmdk -F vmdk image.vmdk",
    ),
    Broken(
        "extent_path",
        "Convert a VMDK of several files into one file",
        "image.vmdk",
        "one.vmdk",
        "qemu-img convert -f raw -O vmdk -o subformat=monolithicFlat base.raw image.vmdk",
    ),
    Broken(
        "change_track_path",
        "Convert the image into a new one",
        "image.vmdk",
        "clean.vmdk",
        vmdk_sparse(8 * MIB, extra_lines=['changeTrackPath="image-ctk.vmdk"'], allocated=2),
    ),
    Broken(
        "log_replay",
        "Replay the log of a VHDX image, in the image itself",
        "image.vhdx",
        "image.vhdx",
        _with_log(),
    ),
    Broken("saved_state", "Drop the mark by a conversion", "image.vhd", "resumed.vhd", _saved()),
    Broken(
        "dirty",
        "Repair a qcow2 image itself",
        "image.qcow2",
        "image.qcow2",
        qcow2(8 * MIB, allocated=2, incompatible=1),
    ),
    Broken(
        "dirty",
        "Repair a Parallels image itself",
        "image.hds",
        "image.hds",
        "qemu-img convert -f raw -O parallels base.raw image.hds; "
        "printf Ynot | dd of=image.hds bs=1 seek=44 conv=notrunc status=none",
    ),
    Broken(
        "dirty",
        "Convert a VMDK",
        "image.vmdk",
        "closed.vmdk",
        "qemu-img convert -f raw -O vmdk base.raw image.vmdk; "
        "printf '\\1' | dd of=image.vmdk bs=1 seek=72 conv=notrunc status=none",
    ),
    Broken(
        "corrupt_flag",
        "Repair a qcow2 image itself",
        "image.qcow2",
        "image.qcow2",
        qcow2(8 * MIB, allocated=2, incompatible=2),
    ),
    Broken(
        "encrypted",
        "Decrypt a qcow2 image",
        "image.qcow2",
        "plain.qcow2",
        "printf secret > key.txt; qemu-img convert -f raw -O qcow2 --object secret,id=k,file=key.txt "
        "-o encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=100 base.raw image.qcow2",
    ),
    Broken(
        "encrypted",
        "Decrypt a LUKS volume",
        "image.luks",
        "plain.qcow2",
        "printf secret > key.txt; qemu-img convert -f raw -O luks --object secret,id=k,file=key.txt "
        "-o key-secret=k,iter-time=100 base.raw image.luks",
    ),
    Broken(
        "snapshots",
        "Copy the current state only",
        "image.qcow2",
        "current.qcow2",
        f"{QCOW2} image.qcow2; qemu-img snapshot -c before image.qcow2",
    ),
    Broken(
        "unsupported_subformat",
        "Join a split VMDK into one file",
        "image-s001.vmdk",
        "one.vmdk",
        "qemu-img convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse base.raw image.vmdk",
    ),
    Broken(
        "unsupported_subformat",
        "Compress again with a supported method",
        "image.raw.lz4",
        "image.raw.gz",
        "lz4 -q -l base.raw image.raw.lz4",
    ),
    Broken(
        "member_path",
        "Take one disk out of a tar archive without unpacking it",
        "image.tar",
        "disk.raw",
        tar([(OUTSIDE, gpt_disk(4 * MIB)), ("disk.raw", gpt_disk(4 * MIB))]),
    ),
    Broken(
        "ovf_reference",
        "Pack an OVA with GNU tar, the OVF first",
        "image.ova",
        "packed.ova",
        "qemu-img convert -f raw -O vmdk -o subformat=streamOptimized base.raw disk.vmdk; "
        "tar --format=ustar -cf image.ova machine.ovf",
    ),
    Broken(
        "ambiguous_format",
        "Write a new qcow2 image from what qemu-img reads as qcow2",
        "image.qcow2",
        "one-format.qcow2",
        _two_formats(),
    ),
    Broken(
        "metadata_overlap",
        "Write a new image from what the maps point to; the content can be wrong",
        "image.qcow2",
        "copied.qcow2",
        _shared_cluster(),
    ),
    Broken(
        "trailing_data",
        "Compress again without the data after the end; gzip warns about them and ends with status 2",
        "image.raw.gz",
        "clean.raw.gz",
        "gzip -c base.raw > image.raw.gz; echo garbage >> image.raw.gz",
    ),
    Broken("member_limit", "Take one disk out of a tar archive", "image.tar", "disk.raw", _many_members()),
    Broken(
        "nested_compression",
        "Remove the outer layer",
        "image.raw.gz.gz",
        "image.raw.gz",
        "gzip -c base.raw | gzip -c > image.raw.gz.gz",
    ),
    Broken(
        "checksum_mismatch",
        "Write the main GPT again from its intact backup, in the image itself",
        "image.raw",
        "image.raw",
        gpt_disk(8 * MIB).patched(528, b"\xff"),
    ),
    Broken(
        "structure",
        "Move the backup GPT to the end of the disk",
        "image.raw",
        "image.raw",
        gpt_disk(8 * MIB).patched(8 * MIB - 512, bytes(512)),
    ),
    Broken(
        "size_mismatch",
        "Write a VHD of the size that Hyper-V and Azure use, with all its data",
        "image.vhd",
        "exact.vhd",
        _other_geometry(),
    ),
    Broken(
        "banned_format",
        "For QEMU, OpenStack and KubeVirt: qcow2",
        "image.qed",
        "converted.qcow2",
        "qemu-img convert -f raw -O qed base.raw image.qed",
    ),
    Broken(
        "banned_format",
        "For VMware and for AWS VM Import: a stream-optimized VMDK",
        "image.qcow2",
        "converted.vmdk",
        f"{QCOW2} image.qcow2",
        "aws-vm-import",
    ),
    Broken(
        "banned_format",
        "For Azure: a fixed VHD; write your size in whole MiB, at least 20M, in place of 8M",
        "image.raw",
        "azure.vhd",
        mbr_disk(7 * MIB + 512),
        "azure",
    ),
    Broken(
        "banned_format",
        "For Google Cloud: a tar archive of disk.raw, compressed with gzip",
        "image.qcow2",
        "image.tar.gz",
        f"{QCOW2} image.qcow2",
        "gcp",
    ),
    Broken(
        "virtual_size_limit",
        "Shrink a raw disk whose end is not used",
        "image.raw",
        "image.raw",
        "qemu-img resize -q -f raw base.raw 16M; mv base.raw image.raw",
        '[[rules]]\nmax_virtual_size = "8 MiB"\n',
    ),
    Broken(
        "virtual_size_multiple",
        "Enlarge a VHD to whole MiB, here 9 MiB, as a fixed VHD",
        "image.vhd",
        "azure.vhd",
        "qemu-img convert -f raw -O vpc -o subformat=fixed base.raw image.vhd",
        "azure",
    ),
    Broken(
        Reason.ZEROS, "Store an empty disk as qcow2", "image.raw", "empty.qcow2", "truncate -s 8M image.raw"
    ),
    Broken(
        Reason.DECOMPRESSION_LIMIT,
        "Store the disk as compressed qcow2",
        "image.raw.gz",
        "small.qcow2",
        "head -c 40M /dev/urandom | dd of=base.raw bs=1M seek=2 status=none; truncate -s 80M base.raw; "
        "sgdisk -o -n 1:2048:0 base.raw > sgdisk.log; gzip -c -1 base.raw > image.raw.gz",
    ),
)
