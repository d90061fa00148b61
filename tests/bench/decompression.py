"""The CPU cost of compressed images: megabytes per second, and the CPU time per MiB of hostile images.

The first table compares Keyhole with the command of each format on one thread, as a ratio of their CPU times.
A command that is not installed is left out.

Run it from the repository's root: python -m tests.bench.decompression
"""

import resource
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from keyhole.builders import Image, gpt_disk
from keyhole.inspectors import Facts, Inspection
from keyhole.inspectors.compression.limits import Decompression
from keyhole.inspectors.inside import Inside
from tests.inspectors.compression.packed import (
    GIB,
    KIB,
    MIB,
    PACKED,
    bzip2_of_blocks,
    noise,
    skippable,
    zeros,
)

ALL = Decompression(output=64 * GIB, input=64 * GIB)
#: The commands that decompress a file on one thread.
COMMANDS = {
    "gzip": ("pigz", "-p1", "-dc"),
    "xz": ("xz", "-T1", "-dc"),
    "zstd": ("zstd", "-T1", "-qdc"),
    "bzip2": ("bzip2", "-dc"),
    "lz4": ("lz4", "-qdc"),
}
#: How often each side of a comparison runs, one after the other. The fastest run counts.
TIMES = 5
#: A typical disk: a quarter each of zeros, of text, of half noise, and of noise.
DISK_MIB = 64


def disk() -> bytes:
    """The front of a disk with a partition table, followed by typical content."""
    text = b"".join(b"%d: a line as there are many, %x\n" % (i, i * 7919) for i in range(40_000))[:MIB]
    kinds = (bytes(MIB), text.ljust(MIB, b"."), noise(1, MIB // 2) + bytes(MIB // 2), noise(2, MIB))
    return gpt_disk(DISK_MIB * MIB).read(0, MIB) + b"".join(kinds[i % 4] for i in range(DISK_MIB - 1))


def tiny_dynamic_blocks(count: int) -> bytes:
    """A gzip member of blocks of a few bytes each; every block has its own Huffman tables."""
    compressor = zlib.compressobj(9, wbits=31)
    piece = bytes(range(97, 123)) * 3
    parts = []
    for _ in range(count):
        parts += [compressor.compress(piece), compressor.flush(zlib.Z_FULL_FLUSH)]
    return b"".join(parts) + compressor.flush()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "gzip: members of a byte": lambda: PACKED["gzip"](b"x") * 40_000,
    "gzip: members of 600 bytes": lambda: PACKED["gzip"](noise(1, 600)) * 6000,
    "gzip: blocks of 78 bytes": lambda: tiny_dynamic_blocks(30_000),
    "xz: streams of 600 bytes": lambda: PACKED["xz"](noise(1, 600)) * 5000,
    "zstd: frames of 600 bytes": lambda: PACKED["zstd"](noise(1, 600)) * 6000,
    "zstd: frames to be skipped": lambda: PACKED["zstd"](b"x") + skippable(b"") * 400_000,
    "zstd: one long frame to be skipped": lambda: PACKED["zstd"](b"x") + skippable(bytes(8 * MIB)),
    "bzip2: streams of 600 bytes": lambda: PACKED["bzip2"](noise(1, 600)) * 3000,
    "bzip2: blocks of a byte": lambda: bzip2_of_blocks(60_000),
    "bzip2: the same letters": lambda: PACKED["bzip2"](b"ab" * 8 * MIB),
}


def inspected(data: bytes, decompression: Decompression) -> tuple[Facts, float]:
    """The facts about an object, and the CPU seconds that the inspection took."""
    inspection = Inspection(inside=Inside(decompression=decompression))
    image = Image.of(len(data), [(0, data)])
    began = time.process_time()
    inspection.finish(image.size)
    while missing := inspection.missing():
        offset, length = missing[0]
        inspection.feed(offset, data[offset : offset + length])
    return inspection.facts(), time.process_time() - began


def commanded(command: tuple[str, ...], path: Path) -> float:
    """The CPU seconds that a command takes to decompress a file, including its start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, path], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(folder: Path) -> None:
    """Print the speeds of Keyhole and of each format's command on the typical disk."""
    print("| format | Keyhole, MiB/s | command | its MiB/s | ratio |\n|---|---|---|---|---|")
    for name, command in COMMANDS.items():
        if shutil.which(command[0]) is None:
            continue
        data, path = PACKED[name](disk()), folder / name
        path.write_bytes(data)
        runs = [(inspected(data, ALL)[1], commanded(command, path)) for _ in range(TIMES)]
        own, other = (min(seconds) for seconds in zip(*runs, strict=True))
        speeds = f"{DISK_MIB / own:,.0f} | {' '.join(command)} | {DISK_MIB / other:,.0f}"
        print(f"| {name} | {speeds} | {other / own:.2f} |", flush=True)


def main() -> None:
    """Print the tables, as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder))
    print("\n| format | a disk, MiB/s | zeros, MiB/s | noise, MiB/s |\n|---|---|---|---|")
    for name, pack in PACKED.items():
        rates = []
        for data in (pack(disk()), zeros(name, 512 * MIB), pack(noise(3, 32 * MIB))):
            facts, seconds = inspected(data, ALL)
            rates.append(f"{(facts.members[0].size or 0) / MIB / seconds:,.0f}")
        print(f"| {name} | {' | '.join(rates)} |", flush=True)
    print("\n| hostile | in | out | CPU | ms a MiB | finding |\n|---|---|---|---|---|---|")
    for name, build in HOSTILE.items():
        data = build()
        facts, seconds = inspected(data, ALL)
        made = facts.details["decompressed_bytes"]
        assert isinstance(made, int)
        most = max(len(data), made) / MIB
        print(
            f"| {name} | {len(data) / KIB:,.0f} KiB | {made / KIB:,.0f} KiB | {seconds * 1000:.0f} ms "
            f"| {seconds * 1000 / most:.0f} | {', '.join(one.check for one in facts.findings)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
