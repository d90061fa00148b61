"""The readers of the field: which there are, what each of them looks at, and where that is written.

A verdict holds for readers: the programs that open an image once it is let in. Where they take the same bytes
for different things, the inspectors tell what each of them sees, and a policy names the readers that it is
made for.

| reader | is | goes by a VHD's |
|---|---|---|
| `qemu-10` | QEMU from 10.0 on: qemu-img, virt-v2v, nova, CDI | current size, or geometry: `BY_GEOMETRY` |
| `qemu-9` | QEMU up to 9.2 | geometry, or current size: `BY_CURRENT_SIZE` |
| `hyper-v` | Hyper-V, Azure, XenServer, VirtualBox, DiscUtils | current size |

Sources: QEMU, block/vpc.c: `vpc_ignore_current_size` since 10.0, before that `vpc_open`; both take the
current size at the largest geometry. VirtualBox, src/VBox/Storage/VHD.cpp, `vhdOpenImage`. Microsoft,
"Virtual Hard Disk Image Format Specification", "Current Size".
"""

from typing import Final

QEMU, QEMU_9, HYPER_V = "qemu-10", "qemu-9", "hyper-v"
#: All readers. The first decides where nobody says which counts.
READERS: Final = (QEMU, QEMU_9, HYPER_V)

#: The creators of VHDs whose geometry QEMU goes by.
BY_GEOMETRY = frozenset({b"vpc ", b"qemu"})
#: The creators of VHDs whose current size QEMU up to 9.2 goes by.
BY_CURRENT_SIZE = frozenset({b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0"})
#: The largest geometry that can be stated: 65,535 cylinders, 16 heads, 255 sectors.
LARGEST_GEOMETRY_BYTES = 65535 * 16 * 255 * 512


def vhd_sizes(creator: bytes, current: int, geometry: int) -> dict[str, int]:
    """Return the virtual size that each reader takes for a VHD's, in bytes.

    Args:
        creator: The four characters of the creator application.
        current: The current size, in bytes.
        geometry: The bytes of the geometry's cylinders.
    """
    largest = geometry == LARGEST_GEOMETRY_BYTES
    return {
        QEMU: geometry if creator in BY_GEOMETRY and not largest else current,
        QEMU_9: current if creator in BY_CURRENT_SIZE or largest else geometry,
        HYPER_V: current,
    }
