"""Parquet: the table with types."""

import io
import json
import sys
from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyarrow import parquet

from keyhole.intake.audits.audit import Audit, AuditedObject
from keyhole.reports.parquet import GROUP_ROWS, PyarrowMissingError, write_parquet
from keyhole.reports.rows import row_of
from tests.reports import sample


def written(*objects: AuditedObject) -> parquet.ParquetFile:
    out = io.BytesIO()
    write_parquet(sample.audit(), objects, out)
    return parquet.ParquetFile(pa.BufferReader(out.getvalue()))


def test_it_has_the_rows_of_all_objects() -> None:
    rows = [row_of(audited)._asdict() for audited in sample.objects()]
    expected = [
        {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in (row | {"virtual_size_text": None}).items()
        }
        for row in rows
    ]

    assert written(*sample.objects()).read().to_pylist() == expected


def test_its_columns_have_types() -> None:
    schema = written().schema_arrow

    assert schema.field("size").type == pa.int64()
    assert schema.field("scanned_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("reasons").type == pa.list_(pa.string())
    assert schema.field("key").type == pa.string()


@pytest.mark.parametrize(
    ("size", "number", "text"),
    [
        (None, None, None),
        (0, 0, None),
        (2**63 - 1, 2**63 - 1, None),
        (2**63, None, "9223372036854775808"),
        (2**73, None, "9444732965739290427392"),
    ],
)
def test_a_size_that_is_no_int64_is_told_in_digits(
    size: int | None, number: int | None, text: str | None
) -> None:
    table = written(sample.audited(sample.verdict("a.vmdk", virtual_size=size))).read()

    assert table["virtual_size"].to_pylist() == [number]
    assert table["virtual_size_text"].to_pylist() == [text]


def test_it_tells_of_which_audit_it_is() -> None:
    metadata = written().schema_arrow.metadata
    assert Audit.model_validate(json.loads(metadata[b"keyhole.audit"])) == sample.audit()


@pytest.mark.slow
def test_no_more_than_a_group_of_rows_is_held() -> None:
    out = io.BytesIO()
    lengths = []

    def objects() -> Iterator[AuditedObject]:
        audited = sample.audited(sample.verdict("a.raw"))
        for number in range(2 * GROUP_ROWS + 1):
            if number % GROUP_ROWS == 0:
                lengths.append(out.tell())
            yield audited

    write_parquet(sample.audit(), objects(), out)

    assert lengths == sorted(set(lengths))  # each group made the file longer
    file = parquet.ParquetFile(pa.BufferReader(out.getvalue()))
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [
        GROUP_ROWS,
        GROUP_ROWS,
        1,
    ]


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = io.BytesIO()

    with pytest.raises(PyarrowMissingError, match=r"pip install -c deploy/constraints.txt '\.\[inventory\]'"):
        write_parquet(sample.audit(), sample.objects(), out)

    assert out.getvalue() == b""
