"""What an inspection costs in CPU time, by format, and what the worst of many changed images costs.

Run it from the repository's root:

    python -m tests.bench.detection                         the table
    python -m tests.bench.detection --changed 2000          with more changed images of each
    python -m tests.bench.detection --profile "vhdx, 1 GiB" where the time of a whole inspection goes

Detection: the object's first 256 KiB are fed, its length is told, and what matches is known. Whole: until
nothing is missing, and the facts. Both are medians. What is fed was read before, which is not measured.

Slowest: of changed images the one whose whole inspection took longest. It is measured again, and the least
time counts, so that it is the image's doing.
"""

import argparse
import cProfile
import pstats
from collections.abc import Callable
from heapq import nlargest
from random import Random
from statistics import median
from time import process_time

from keyhole.builders import (
    Image,
    asif,
    bochs,
    cloop,
    cowd,
    dmg,
    ewf,
    ewf2,
    gpt_disk,
    iso,
    luks,
    luks2,
    mbr_disk,
    parallels,
    qcow1,
    qcow2,
    qed,
    sesparse,
    sparseimage,
    udf,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_flat_descriptor,
    vmdk_sparse,
    vmdk_stream_optimized,
)
from keyhole.inspectors import Facts, Inspection
from tests.inspectors.test_hostile import MOST_RANGES, mutated

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4
HEAD_BYTES = 256 * 1024
ROUNDS = 300
#: As many of the changed images as took longest are measured again, as often.
SUSPECTS, AGAIN = 3, 5
TEXT = 'version=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="vmfs"\nRW 2097152 VMFS "a-flat.vmdk"\n'

#: Usual images, and ones whose tables are as large as they get.
IMAGES: dict[str, Image] = {
    "qcow2, 1 GiB": qcow2(GIB, allocated=3),
    "qcow2, 2 MiB clusters": qcow2(TIB, cluster_bits=21, allocated=3),
    "qcow2, backing file": qcow2(GIB, allocated=3, backing_file="base.qcow2", snapshots=2),
    "vmdk sparse, 1 GiB": vmdk_sparse(GIB, allocated=3),
    "vmdk sparse, 1 TiB": vmdk_sparse(TIB, allocated=3),
    "vmdk stream, 1 GiB": vmdk_stream_optimized(GIB, allocated=3),
    "vmdk text": vmdk_flat_descriptor(TEXT),
    "vmdk cowd, 1 GiB": cowd(GIB, allocated=3),
    "vmdk sesparse, 1 GiB": sesparse(GIB, allocated=3),
    "vhd fixed": vhd_fixed(64 * MIB),
    "vhd dynamic, 1 GiB": vhd_dynamic(GIB, allocated=3),
    "vhd dynamic, 1 TiB": vhd_dynamic(TIB, allocated=3),
    "vhdx, 1 GiB": vhdx(GIB, allocated=3),
    "vhdx, 64 TiB": vhdx(64 * TIB, allocated=3),
    "vdi, 1 GiB": vdi(GIB, allocated=3),
    "vdi, 1 TiB": vdi(TIB, allocated=3),
    "gpt": gpt_disk(64 * MIB),
    "gpt, 4 KiB sectors": gpt_disk(64 * MIB, sector=4096),
    "mbr": mbr_disk(64 * MIB),
    "iso": iso(el_torito=True, joliet=True),
    "iso and udf": iso(400, udf=True),
    "udf": udf(),
    "qcow": qcow1(GIB, allocated=3),
    "qed": qed(GIB, allocated=3),
    "parallels, 1 GiB": parallels(GIB, allocated=3),
    "parallels, 1 TiB": parallels(TIB, allocated=3),
    "bochs": bochs(GIB, allocated=3),
    "cloop": cloop(GIB, allocated=3),
    "dmg": dmg(GIB, allocated=3),
    "sparseimage": sparseimage(GIB, allocated=3),
    "asif": asif(GIB, allocated=3),
    "ewf": ewf(MIB, allocated=3),
    "ewf2": ewf2(),
    "luks1": luks(MIB),
    "luks2": luks2(MIB),
    "nothing known": Image.of(MIB, [(100, b"nothing that is known")]),
}


class Pieces:
    """An image as a scan reads it: the head, then all that an inspection asks for."""

    def __init__(self, image: Image) -> None:
        self.size = image.size
        self.pieces = [(0, image.read(0, HEAD_BYTES))]
        inspection = self._begun()
        while missing := inspection.missing():
            assert len(self.pieces) < MOST_RANGES, missing
            self.pieces.append((missing[0].offset, image.read(*missing[0])))
            inspection.feed(*self.pieces[-1])

    def detect(self) -> list[str]:
        """What the object is, by its head."""
        return [str(inspector) for inspector in self._begun().matches]

    def inspect(self) -> Facts:
        """All that is known of the object."""
        inspection = self._begun()
        for offset, data in self.pieces[1:]:
            inspection.missing()
            inspection.feed(offset, data)
        assert not inspection.missing()
        return inspection.facts()

    def _begun(self) -> Inspection:
        inspection = Inspection()
        inspection.feed(*self.pieces[0])
        inspection.finish(self.size)
        return inspection


def milliseconds(call: Callable[[], object]) -> float:
    """The CPU time of one call."""
    started = process_time()
    call()
    return (process_time() - started) * 1000


def usual(call: Callable[[], object]) -> float:
    """The median of many calls, in milliseconds."""
    return median(milliseconds(call) for _ in range(ROUNDS))


def slowest(image: Image, count: int) -> float:
    """The longest that one of so many changed images takes, in milliseconds."""
    choose = Random(count)  # noqa: S311 - to choose changes, the same in every run
    changed = [mutated(image, choose) for _ in range(count)]
    suspects = nlargest(SUSPECTS, changed, key=lambda one: milliseconds(Pieces(one).inspect))
    return max(min(milliseconds(pieces.inspect) for _ in range(AGAIN)) for pieces in map(Pieces, suspects))


def profile(pieces: Pieces) -> None:
    """Print where the time of a whole inspection goes."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(ROUNDS):
        pieces.inspect()
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changed", type=int, default=300, help="how many changed images of each")
    parser.add_argument("--profile", choices=IMAGES, help="print a profile of this one instead")
    options = parser.parse_args()
    if options.profile:
        profile(Pieces(IMAGES[options.profile]))
        return
    print(f"| image | detection, ms | whole, ms | slowest of {options.changed} changed, ms |")
    print("|---|---|---|---|")
    for name, image in IMAGES.items():
        pieces = Pieces(image)
        print(
            f"| {name} | {usual(pieces.detect):.2f} | {usual(pieces.inspect):.2f} "
            f"| {slowest(image, options.changed):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
