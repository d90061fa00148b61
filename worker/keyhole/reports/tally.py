"""Counts verdicts, for the line below a table and for the exit code of a command."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyhole.reasons import STATUSES, Status, not_an_image

if TYPE_CHECKING:
    from keyhole.scan.report import Report


@dataclass(slots=True)
class Tally:
    """The number of verdicts with each status, and the cost of the scans. Sizes are in bytes.

    `not_images` is the number of objects that are certainly not disk images, such as PDFs. They are also
    counted in `statuses`, as `unrecognized`.
    """

    statuses: Counter[Status] = field(default_factory=Counter)
    not_images: int = 0
    requests: int = 0
    bytes_read: int = 0
    #: The total size of the objects whose size is known.
    stored: int = 0

    @property
    def objects(self) -> int:
        """The number of verdicts."""
        return self.statuses.total()

    def add(self, report: "Report") -> None:
        """Count a verdict."""
        self.statuses[report.status] += 1
        self.not_images += not_an_image(report.status, report.reasons)
        self.requests += report.requests
        self.bytes_read += report.bytes_read
        self.stored += report.size or 0

    def counting(self, reports: "Iterable[Report]") -> "Iterator[Report]":
        """Yield all reports, and count each one before it is yielded."""
        for report in reports:
            self.add(report)
            yield report

    def images(self) -> list[tuple[Status, int]]:
        """Return the number of verdicts for each status, the most urgent first, without `not_images`."""
        counts = self.statuses - Counter({Status.UNRECOGNIZED: self.not_images})
        return [(status, counts[status]) for status in STATUSES if counts[status]]


def told(tally: Tally) -> str:
    """Return one line with the number of objects, and the number of objects with each status.

    An example is `36 objects: 9 unsafe, 3 damaged, 20 safe, 4 not images`.
    """
    counts = [f"{count:,} {status.value}" for status, count in tally.images()]
    if tally.not_images:
        counts.append(f"{tally.not_images:,} not {'an image' if tally.not_images == 1 else 'images'}")
    objects = f"{tally.objects:,} {'object' if tally.objects == 1 else 'objects'}"
    return f"{objects}: {', '.join(counts)}" if counts else objects
