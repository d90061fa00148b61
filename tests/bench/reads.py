"""The bytes that a scan of a 10 GiB disk reads, by format, compared with streaming the object.

Run it from the repository's root, with qemu-img installed:

    python -m tests.bench.reads                  the table of `keyhole docs cost`
    python -m tests.bench.reads --heads          the same for several lengths of the first GET

qemu-img makes the images, with 64 MiB of data each. Keyhole's builders make the partitioned disk and the
fixed VHD. The images are stored in a local S3 and read from there. Both ways of reading end when the
inspection needs no more bytes.
"""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from keyhole.builders import gpt_disk, guest_disk
from keyhole.demo.local_s3 import CREDENTIALS, demo_client, local_s3
from keyhole.inspectors import Inspection
from keyhole.inspectors.region import ByteRange
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.sources.meter import Meter
from keyhole.sources.s3 import AT_ONCE, S3Source
from keyhole.sources.s3_access import S3Access

KIB, MIB, GIB = 1024, 1024**2, 1024**3
VIRTUAL = 10 * GIB
DATA = 64 * MIB
STREAM_CHUNK = 64 * KIB
HEADS = (16 * KIB, 64 * KIB, 256 * KIB, 512 * KIB)
#: Typical time to the first byte and rate of one connection to S3, to estimate the duration of a scan.
FIRST_BYTE_SECONDS, BYTES_PER_SECOND = 0.030, 85e6
FORMATS = {
    "qcow2": ["-O", "qcow2"],
    "qcow2, compressed": ["-c", "-O", "qcow2"],
    "VMDK monolithicSparse": ["-O", "vmdk"],
    "VMDK streamOptimized": ["-O", "vmdk", "-o", "subformat=streamOptimized"],
    "VHD dynamic": ["-O", "vpc", "-o", "force_size"],
    "VHDX dynamic": ["-O", "vhdx"],
    "VDI dynamic": ["-O", "vdi"],
}
BUCKET = "bench"


def images(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each image in turn, and delete it before making the next one."""
    source = folder / "source.raw"
    guest_disk(VIRTUAL, block_size=64 * KIB, allocated=DATA // (64 * KIB)).write_to(source)
    with source.open("r+b") as file:
        file.write(os.urandom(DATA))
    for name, options in FORMATS.items():
        path = folder / "image"
        subprocess.run(["qemu-img", "convert", "-f", "raw", *options, source, path], check=True)
        yield name, path
        path.unlink()
    source.unlink()
    # A raw disk is stored whole. 0.5 GiB gives the same result as 10 GiB.
    yield "raw with GPT (512 MiB)", gpt_disk(512 * MIB).write_to(folder / "disk.raw")


def streamed(path: Path) -> int:
    """The bytes of a stream that are read until the inspection needs no more. The length is known."""
    inspection = Inspection()
    inspection.finish(path.stat().st_size)
    with path.open("rb") as file:
        while not inspection.complete and (chunk := file.read(STREAM_CHUNK)):
            inspection.eat_chunk(chunk)
        return file.tell()


class CountingSource(S3Source):
    """A source that counts the rounds in which ranges are fetched."""

    rounds = 0

    def read(self, offset: int, length: int) -> bytes:
        """Fetch one range in a round of its own."""
        self.rounds += 1
        return super().read(offset, length)

    def read_all(self, parts: Iterable[ByteRange]) -> Iterator[bytes]:
        """Fetch the ranges in as few rounds as possible."""
        wanted = list(parts)
        after = self.rounds + -(-len(wanted) // AT_ONCE)
        for data in super().read_all(wanted):
            self.rounds = after  # for the first object of a bucket, `super` calls `read` for each range
            yield data


def scanned(access: S3Access, key: str, head: int) -> tuple[Report, int]:
    """Scan an object of the local S3, and return the report and the number of rounds."""
    sources: list[CountingSource] = []

    def opened(meter: Meter) -> CountingSource:
        sources.append(CountingSource(access, BUCKET, key, version_id=None, meter=meter))
        return sources[-1]

    report = scan(Target(key, BUCKET, key), opened, ScanSettings(head_bytes=head))
    return report, sources[-1].rounds


def seconds(report: Report, rounds: int) -> float:
    """The time that a scan's reads would take on S3."""
    return rounds * FIRST_BYTE_SECONDS + report.bytes_read / BYTES_PER_SECOND


def main() -> None:
    """Print the table, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", action="store_true", help="compare lengths of the first GET")
    heads = HEADS if parser.parse_args().heads else (ScanSettings().head_bytes,)
    os.environ.update(CREDENTIALS)
    print("| image | stored | first GET | GETs | rounds | read | on S3, about | streamed from the front |")
    print("|---|---|---|---|---|---|---|---|")
    with local_s3() as url, tempfile.TemporaryDirectory() as folder:
        client = demo_client(url)
        client.create_bucket(Bucket=BUCKET)
        access = S3Access(endpoint_url=url, region=None, connections=4)
        for name, path in images(Path(folder)):
            client.put_object(Bucket=BUCKET, Key=path.name, Body=path.read_bytes())
            for head in heads:
                report, rounds = scanned(access, path.name, head)
                assert report.status == "safe", report
                assert report.size is not None
                print(
                    f"| {name} | {report.size / MIB:,.0f} MiB | {head // KIB} KiB "
                    f"| {report.requests} | {rounds} | {report.bytes_read / KIB:,.0f} KiB "
                    f"| {seconds(report, rounds) * 1000:.0f} ms "
                    f"| {streamed(path) / KIB:,.0f} KiB |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
