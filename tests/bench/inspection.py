"""The CPU time of an inspection alone, without fetching, for each kind of image."""

import gc
from pathlib import Path
from statistics import mean, median
from time import process_time

from keyhole.inspectors import Inspection
from keyhole.inspectors.region import ByteRange
from keyhole.scan.plan import merge
from keyhole.scan.settings import ScanSettings
from tests.bench.mix import KINDS, kind_of
from tests.bench.table import Table


class Fetched:
    """An image with the pieces that a scan of it fetches."""

    def __init__(self, path: Path) -> None:
        settings = ScanSettings()
        self.size = path.stat().st_size
        self.rounds: list[list[tuple[int, bytes]]] = []
        with path.open("rb") as file:

            def fetch(part: ByteRange) -> tuple[int, bytes]:
                file.seek(part.offset)
                return part.offset, file.read(part.length)

            self.rounds.append([fetch(ByteRange(0, settings.head_bytes))])
            inspection = self._begun()
            while missing := inspection.missing():
                self.rounds.append([fetch(part) for part in merge(missing, settings.gap_bytes)])
                for piece in self.rounds[-1]:
                    inspection.feed(*piece)

    def inspect(self) -> None:
        """Inspect the image as a scan does."""
        inspection = self._begun()
        for pieces in self.rounds[1:]:
            inspection.missing()
            for piece in pieces:
                inspection.feed(*piece)
        assert not inspection.missing()
        assert inspection.facts().format is not None

    def _begun(self) -> Inspection:
        inspection = Inspection()
        inspection.finish(self.size)
        inspection.feed(*self.rounds[0][0])
        return inspection


def run(folder: Path, images: list[str], times: int) -> list[Table]:
    """Return the table: medians of so many inspections, in milliseconds of CPU time."""
    table = Table("Inspection alone", ("kind", "CPU ms", "rounds", "GETs", "KiB"))
    rows: list[tuple[float, float, float, float]] = []
    for kind in KINDS:
        fetched = [Fetched(folder / name) for name in images if kind_of(name) == kind]
        took = mean(median(_milliseconds(image) for _ in range(times)) for image in fetched)
        pieces = [[piece for pieces in image.rounds for piece in pieces] for image in fetched]
        row = (
            took,
            mean(len(image.rounds) for image in fetched),
            mean(map(len, pieces)),
            mean(sum(len(data) for _, data in parts) for parts in pieces) / 1024,
        )
        rows.append(row)
        table.add(kind, *row)
    table.add("mean", *map(mean, zip(*rows, strict=True)))
    return [table]


def _milliseconds(image: Fetched) -> float:
    gc.disable()
    try:
        began = process_time()
        image.inspect()
        return (process_time() - began) * 1000
    finally:
        gc.enable()
