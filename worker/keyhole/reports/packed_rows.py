"""Packs the rows of the page's table of objects, so that all of them fit into the page.

The page's script unpacks the rows. The page contains them as blocks of text, one on each line, the most
urgent first. A block is a JSON array of rows, compressed with zlib, in base64. Base64 has no character with
a meaning in HTML, so no key and no message can end the element that contains the blocks. A row is an array.
`_values` states the order of its fields, and the script (`templates/rows.js`) reads them in the same order.

Each status has blocks of its own. So if there are more objects than the page can hold, the blocks of the
most urgent statuses are taken first, and memory is bounded although the audit yields its objects in any
order.
"""

import json
import zlib
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from keyhole.inspectors.text import shown
from keyhole.reasons import STATUSES, Status
from keyhole.reports.owners import owner_code
from keyhole.reports.rows import Row

#: The number of rows in a block. Larger blocks hardly compress better, but take more memory here.
BLOCK: Final = 2500
#: The maximum number of sentences of a row. A VMDK descriptor can name hundreds of files outside the image,
#: and each of these names is a finding with its own sentence.
SENTENCES: Final = 20
#: The largest integer that a script represents exactly (ECMAScript, `Number.MAX_SAFE_INTEGER`). The header of
#: an image can state a larger size, which is then packed as text.
_EXACT: Final = 2**53 - 1


class NumberedRow(NamedTuple):
    """A row and what the page adds to it.

    `number` is the object's place in the audit, beginning with 1. The section of the object has the address
    `#object-17`. `change` states what changed since the last audit: it is a former status, `new`, or empty.
    """

    number: int
    row: Row
    change: str = ""


class PackedRows:
    """Collects rows, up to `limit`, and packs them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: defaultdict[Status, list[str]] = defaultdict(list)
        self._blocks: defaultdict[Status, list[tuple[int, bytes]]] = defaultdict(list)
        self._added: Counter[Status] = Counter()

    def add(self, numbered: NumberedRow) -> None:
        """Add a row. If its status has `limit` rows already, the page cannot need it."""
        status = numbered.row.status
        if self._added[status] >= self._limit:
            return
        self._added[status] += 1
        self._open[status].append(_json(_values(numbered)))
        if len(self._open[status]) == BLOCK:
            self._close(status)

    def packed(self) -> tuple[list[str], Counter[Status]]:
        """Return the blocks of the `limit` most urgent rows, and how many of the rows have which status."""
        blocks: list[str] = []
        taken: Counter[Status] = Counter()
        for status in STATUSES:
            self._close(status)
            for rows, block in self._blocks[status]:
                kept = min(rows, self._limit - taken.total())
                if not kept:
                    return blocks, +taken
                blocks.append(_text(block if kept == rows else _cut(block, kept)))
                taken[status] += kept
        return blocks, taken

    def _close(self, status: Status) -> None:
        rows = self._open.pop(status, [])
        if rows:
            self._blocks[status].append((len(rows), _packed(rows)))


def _packed(rows: list[str]) -> bytes:
    return zlib.compress(f"[{','.join(rows)}]".encode())


def _cut(block: bytes, rows: int) -> bytes:
    """Return a block with only its first rows."""
    return _packed([_json(row) for row in json.loads(zlib.decompress(block))[:rows]])


def _text(block: bytes) -> str:
    return b64encode(block).decode()


def _json(values: list[object]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


_PLACES: Final = {status: place for place, status in enumerate(STATUSES)}


def _values(numbered: NumberedRow) -> list[object]:
    number, row, change = numbered
    told = (*row.waived, *row.findings)
    sentences = _shown(told[:SENTENCES])
    return [
        number,
        _PLACES[row.status],
        shown(row.key or ""),
        shown(row.version_id or ""),
        row.format and shown(row.format),
        row.subformat and shown(row.subformat),
        exactly(row.size),
        exactly(row.virtual_size),
        row.wholeness,
        _shown(row.reasons),
        sentences,
        len(told) - len(sentences),
        change,
        shown((row.etag or "").strip('"')),
        _seconds(row.last_modified),
        _shown(row.content),
        row.requests,
        row.bytes_read,
        _seconds(row.scanned_at),
        shown(row.ruleset or ""),
        row.how,
        row.status_now if row.status_now != row.status else None,
        len(row.waived),
        owner_code(row),
    ]


def _shown(texts: Iterable[str]) -> list[str]:
    return [shown(text) for text in texts]


def exactly(count: int | None) -> int | str | None:
    """Return a number that a script represents exactly: as text if it is too large for a number."""
    return str(count) if count is not None and count > _EXACT else count


def _seconds(when: datetime | None) -> int | None:
    return None if when is None else int(when.timestamp())
