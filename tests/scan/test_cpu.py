"""The CPU time budget of a scan, and the report if it is not enough."""

import gzip
import time
from collections.abc import Callable
from functools import cache
from io import BytesIO
from itertools import count
from types import SimpleNamespace

import pytest

from keyhole.builders import Image, gpt_disk, qcow2, tar
from keyhole.builders.tar import tar_header
from keyhole.reasons import Status
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.sources import meter
from keyhole.sources.local import FileSource
from keyhole.sources.meter import Budget

GIB = 1 << 30
#: The seconds of CPU time that pass between two looks at the clock of the test, and a budget that is much
#: less than the objects here need.
BETWEEN_LOOKS, LITTLE = 0.01, 0.2
#: More seconds of CPU time than any object here needs.
ENOUGH = 1e6


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of CPU time that advances when a scan looks at it, so that the machine has no effect."""
    looks = count()
    clock = SimpleNamespace(monotonic=time.monotonic, thread_time=lambda: next(looks) * BETWEEN_LOOKS)
    monkeypatch.setattr(meter, "time", clock)


@cache
def _empty_files() -> bytes:
    return b"".join(tar_header(b"f%d" % number) for number in range(6_000))


@cache
def _tiny_files() -> bytes:
    return b"".join(tar_header(b"f%d" % number, 3) + b"abc".ljust(512, b"\0") for number in range(2_000))


def _scanned(data: bytes, *, image: float = LITTLE, container: float = LITTLE) -> Report:
    settings = ScanSettings(
        budget=Budget(cpu_seconds=image),
        container_budget=Budget(requests=1024, bytes=1 << 28, seconds=240, cpu_seconds=container),
    )
    return scan(Target("object"), lambda meter: FileSource(BytesIO(data), meter), settings)


def _archive(*members: bytes) -> bytes:
    return tar([(f"{n}.tar", Image.of(len(one), [(0, one)])) for n, one in enumerate(members)]).to_bytes()


@pytest.mark.usefixtures("_clock")
@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: gzip.compress(_empty_files(), 1), "gzip"),
        (lambda: _archive(_tiny_files()), "tar"),
        (lambda: gzip.compress(_archive(_empty_files(), _empty_files()), 1), "gzip"),
    ],
    ids=["a tar of empty files in gzip", "a tar of tiny files in a tar", "both"],
)
def test_a_scan_that_takes_too_long_to_compute_is_ended_and_inconclusive(
    build: Callable[[], bytes], name: str
) -> None:
    report = _scanned(build())
    assert (report.status, report.reasons, report.format) == (Status.INCONCLUSIVE, ("budget",), name)
    assert LITTLE * 1000 <= report.cpu_ms < _scanned(build(), image=ENOUGH, container=ENOUGH).cpu_ms / 4


@pytest.mark.usefixtures("_clock")
def test_what_is_critical_and_known_by_then_is_unsafe() -> None:
    outside = tar_header(b"../../etc/shadow", 3) + b"abc".ljust(512, b"\0")
    report = _scanned(outside + _tiny_files())
    assert (report.status, report.reasons) == (Status.UNSAFE, ("member_path", "budget"))


def test_an_image_has_its_own_budget_and_a_container_another() -> None:
    # Given a budget that is too small for an image, and a budget for containers that is enough
    image = qcow2(GIB, allocated=3).to_bytes()
    # When both are scanned, then only the image exceeds its budget, however long it takes to recognise the
    # container
    assert _scanned(image, image=0, container=10).reasons == ("budget",)
    assert _scanned(gzip.compress(image), image=0, container=10).status is Status.SAFE


def test_a_scan_that_cannot_even_begin_says_so() -> None:
    report = _scanned(gpt_disk(4 << 20).to_bytes(), image=0, container=0)
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("budget",))


def test_a_report_tells_the_cpu_time_that_a_scan_took() -> None:
    report = _scanned(qcow2(GIB, allocated=3).to_bytes(), image=ENOUGH)
    assert report.status is Status.SAFE
    assert report.cpu_ms > 0
