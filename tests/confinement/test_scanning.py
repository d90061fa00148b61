"""A confined process scans objects of all formats without importing a module."""

from pathlib import Path

from keyhole.inspectors.catalogue import NAMES
from tests.confinement.confined import answer, with_landlock
from tests.examples import EXAMPLES

STRAYS = {"zeros": bytes(4096), "text": b"text" * 1000, "PDF": b"%PDF-1.7" + bytes(100)}
#: Does what a worker does before it starts its pool.
BEFORE = """
from types import SimpleNamespace
from celery.signals import celeryd_after_setup
import keyhole.fleet.pool_process
celeryd_after_setup.send("worker", instance=SimpleNamespace(pool_cls=object))

from keyhole.api import scan_path
from keyhole.scan.settings import ScanSettings
settings = ScanSettings()
known = set(sys.modules)
"""
SCAN = """
reports = [scan_path(path, settings) for path in (folder / "writable").iterdir()]
print(json.dumps({
    "formats": sorted({str(report.format) for report in reports}),
    "reasons": sorted({reason for report in reports for reason in report.reasons}),
    "media types": sorted({str(report.details.get("mime_type")) for report in reports}),
    # Python imports encodings whenever code uses them first.
    "imported": sorted(name for name in set(sys.modules) - known if not name.startswith("encodings.")),
}))
"""


@with_landlock
def test_a_confined_process_of_a_worker_scans_all_formats_without_an_import(tmp_path: Path) -> None:
    images = tmp_path / "writable"
    images.mkdir()
    for number, example in enumerate(EXAMPLES.values()):
        example.image.write_to(images / f"{number}.image")
    for name, data in STRAYS.items():
        (images / name).write_bytes(data)

    found = answer(SCAN, tmp_path, before=BEFORE)

    assert found["imported"] == []
    assert set(found["formats"]) == {*NAMES, "None"}
    assert set(found["media types"]) == {"None", "application/pdf", "text/plain"}
    assert {"internal_error", "unreadable_file"}.isdisjoint(found["reasons"])
