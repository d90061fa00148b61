"""Parts that the recipes use in their images: disks, a tree of files, a key, an OVF descriptor."""

import subprocess
from pathlib import Path

from keyhole.builders import Image, OVADisk, mbr_disk, ovf
from tests.tools import environment

MIB = 1024**2
#: The size of the disk that recipes pack into archives and compress.
DISK = 4 * MIB
#: Scripts that make the parts. They use tools that most recipes need too.
SCRIPT = """
truncate -s 24M guest.raw
printf 'label: gpt\\n,4M,U\\n,,L\\n' | sfdisk -q --no-reread guest.raw
mke2fs -q -F -t ext4 -E offset=$((6 * 1048576)) guest.raw 16M
qemu-img create -q -f qcow2 disk.qcow2 1G
qemu-img convert -f raw -O qcow2 disk.raw data.qcow2
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized disk.raw disk.vmdk
qemu-img convert -f raw -O vpc -o subformat=dynamic,force_size=on disk.raw disk.vhd
truncate -s 4M efi.img
mkfs.fat efi.img
"""


def make(folder: Path) -> None:
    """Make the parts in an empty folder.

    Raises:
        CalledProcessError: A tool failed.
    """
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "hostname").write_text("guest\n")
    (tree / "data.bin").write_bytes(bytes(range(256)) * 300)
    (folder / "key").write_bytes(b"a passphrase")
    (folder / "Vagrantfile").write_text("Vagrant.configure('2') { |config| }\n")
    (folder / "metadata.json").write_text('{"provider": "libvirt", "format": "qcow2", "virtual_size": 1}\n')
    mbr_disk(DISK, [(0x83, 2048, 4096)]).write_to(folder / "disk.raw")
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SCRIPT],
        cwd=folder,
        env=environment(),
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    for name in ("disk.vmdk", "disk.vhd"):
        disk = OVADisk(name, Image((folder / name).stat().st_size), DISK)
        (folder / f"{name}.ovf").write_text(ovf([disk]))
