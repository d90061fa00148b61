"""Listing an inventory starts a process that reads its parts and is confined like its parent."""

from pathlib import Path

import pytest

from tests.confinement.confined import answer, with_landlock
from tests.intake.inventory.inventories import CURRENT, FORMATS, Row, part


@pytest.mark.slow
@with_landlock
@pytest.mark.parametrize("file_format", FORMATS)
def test_a_part_is_read(tmp_path: Path, file_format: str) -> None:
    writable = tmp_path / "writable"
    writable.mkdir()
    body = part(file_format, [Row("a", bucket="images"), Row("b", bucket="images")])
    (writable / "part").write_bytes(body)
    code = f"""
from keyhole.intake.inventory.conversion import convert
from keyhole.intake.inventory.part import Conversion, FileFormat
from keyhole.intake.inventory.table import read_rows
source, target = (str(folder / "writable" / name) for name in ("part", "table"))
chosen = FileFormat({file_format.lower()!r})
part = Conversion(source, target, {len(body)}, chosen, {CURRENT!r}, "images", "", versions=False)
print(json.dumps([convert(part), read_rows(Path(target), 0, 10)[1]]))
"""
    assert answer(code, tmp_path) == [2, 2]
