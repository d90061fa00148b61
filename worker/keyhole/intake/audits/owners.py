"""The binary format in which an audit stores the owners of its objects.

Only an audit with the option `owner_tag` stores owners, in a list beside the list of its rows. When a page or
a batch adds a string of rows to the one list, the same script adds a string of owners to the other list, in
the same order. So the n-th owner belongs to the n-th row.

A string of owners contains each different owner only once:

| bytes | what it is |
|---|---|
| 2 | the number of rows |
| 2 for each row | the place of the row's owner below, beginning with 0 |
| 2, then n, for each different owner | the length n of the owner, and the owner |

Numbers are big-endian. An owner is `-` if the object lacks the tag, `=` and the tag's value in UTF-8, or `!`
and the reason why the tags could not be read. The script that finishes a batch writes the same format
(`PACK_OWNERS`).
"""

from collections.abc import Iterator, Sequence
from struct import pack, unpack_from
from typing import Final

from keyhole.results.owner import Owner

#: The bytes of each row, apart from the owners themselves.
OWNER_BYTES: Final = 2
_NO_TAG, _NAMED, _UNKNOWN = b"-", b"=", b"!"

#: Lua functions for the script that finishes a batch.
PACK_OWNERS: Final = """
local function two_bytes(number)
    return string.char(math.floor(number / 256), number % 256)
end

-- `owners`: the owner of each row, as bytes
local function pack_owners(owners)
    local places, found, at = {}, {}, {}
    for i, owner in ipairs(owners) do
        if not at[owner] then
            found[#found + 1] = two_bytes(#owner) .. owner
            at[owner] = #found - 1
        end
        places[i] = two_bytes(at[owner])
    end
    return two_bytes(#owners) .. table.concat(places) .. table.concat(found)
end
"""


def owner_bytes(owner: Owner) -> bytes:
    """Return one owner in the binary format."""
    if owner.unknown is not None:
        return _UNKNOWN + owner.unknown.encode("utf-8", "replace")
    return _NO_TAG if owner.name is None else _NAMED + owner.name.encode("utf-8", "surrogatepass")


def pack_owners(owners: Sequence[Owner]) -> bytes:
    """Return the owners of the rows of one page, in the order of the rows."""
    found: dict[bytes, int] = {}
    places = [found.setdefault(owner_bytes(owner), len(found)) for owner in owners]
    table = b"".join(pack(">H", len(owner)) + owner for owner in found)
    return pack(f">{len(places) + 1}H", len(places), *places) + table


def unpack_owners(packed: bytes) -> Iterator[Owner]:
    """Yield the owners in a string of owners, one for each row."""
    (rows,) = unpack_from(">H", packed)
    places = unpack_from(f">{rows}H", packed, 2)
    found: list[Owner] = []
    at = 2 + 2 * rows
    while at < len(packed):
        (length,) = unpack_from(">H", packed, at)
        found.append(_owner(packed[at + 2 : at + 2 + length]))
        at += 2 + length
    return (found[place] for place in places)


def _owner(stored: bytes) -> Owner:
    kind, text = stored[:1], stored[1:]
    if kind == _NAMED:
        return Owner(text.decode("utf-8", "surrogatepass"))
    return Owner() if kind == _NO_TAG else Owner(unknown=text.decode("utf-8", "replace"))
