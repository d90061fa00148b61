"""The signatures of Linux's swap space, and of a suspended system that is stored in swap space.

Offsets are in bytes and count from the beginning of the volume. The magic number is at the end of the first
page. The page size depends on the machine: 4, 8, 16, 32 or 64 KiB. Numbers have the machine's byte order.

| name | magic, 10 bytes before the page's end | conditions |
|---|---|---|
| swap | `SWAP-SPACE` | none: this is version 0 |
| swap | `SWAPSPACE2` | the version u32@1024 is 1 in one of the two byte orders; the last page u32@1028 is not zero |
| swsuspend | `S1SUSPEND`, `S2SUSPEND`, `ULSUSPEND`, `LINHIB0001` | none: when Linux suspends, it replaces the magic number of the swap space by this magic number, and stores the replaced number elsewhere |
| swsuspend | ED C3 02 E9 98 56 E5 0C @0 | none: TuxOnIce does not replace the magic number of the swap space |

Sources: the Linux kernel's include/linux/swap.h (union swap_header) and kernel/power/swap.c (HIBERNATE_SIG);
the suspend package's swsusp.h; for TuxOnIce and for all conditions, libblkid 2.41.
"""  # noqa: E501 - the rows of the table are one line each

from keyhole.inspectors.region import ByteRange
from keyhole.inspectors.volumes.superblock import Place, Signature, Superblock
from keyhole.inspectors.volumes.view import View

PAGES = (4096, 8192, 16384, 32768, 65536)
#: Linux rejects a swap space of fewer than ten pages.
SMALLEST = 10 * 4096
HEADER = ByteRange(1024, 516)
TUXONICE = b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"
SUSPENDED = (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001")


def _ends_of_pages(*magics: bytes) -> tuple[Place, ...]:
    return tuple(Place(page - 10, 10, magic) for page in PAGES for magic in magics)


def _swap_sound(_superblock: Superblock, place: Place, view: View) -> bool:
    first, header = view.read(0, len(TUXONICE)), Superblock(view.read(*HEADER))
    if len(first) < len(TUXONICE) or first == TUXONICE:
        return False
    if place.magic == b"SWAP-SPACE":
        return True
    version_is_1 = header.le(0, 4) == 1 or header.be(0, 4) == 1
    return len(header) == HEADER.length and version_is_1 and header.le(4, 4) != 0


def _swsuspend_sound(_superblock: Superblock, _place: Place, view: View) -> bool:
    return len(view.read(*HEADER)) == HEADER.length


SWAP = Signature(
    "swap",
    _ends_of_pages(b"SWAP-SPACE", b"SWAPSPACE2"),
    _swap_sound,
    smallest=SMALLEST,
    reads=(ByteRange(0, len(TUXONICE)), HEADER),
)
SWSUSPEND = Signature(
    "swsuspend",
    (Place(0, len(TUXONICE), TUXONICE), *_ends_of_pages(*SUSPENDED)),
    _swsuspend_sound,
    smallest=SMALLEST,
    reads=(HEADER,),
)
