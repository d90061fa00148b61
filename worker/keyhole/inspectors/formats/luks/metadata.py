"""Parses the JSON metadata of LUKS version 2, which an attacker may have written.

Source: "LUKS2 On-Disk Format Specification" 1.1.1, chapter 3 "JSON Metadata". LUKS2 stores numbers of bytes
as strings of decimal digits, because some JSON parsers cannot represent large numbers exactly.

    {"segments": {"0": {"type": "crypt", "offset": "16777216", "size": "dynamic", "sector_size": 512,
                        "encryption": "aes-xts-plain64", "integrity": {…}, "flags": ["backup-…"]}},
     "keyslots": {"0": {"area": {"offset": "32768", "size": "258048"}}},
     "config": {"json_size": "12288", "keyslots_size": "16744448", "requirements": {"mandatory": ["…"]}}}
"""

import json
from dataclasses import dataclass, field

from keyhole.inspectors.text import printable

#: cryptsetup's limits, LUKS2_KEYSLOTS_MAX and LUKS2_SEGMENT_MAX.
MAX_KEYSLOTS = MAX_SEGMENTS = 32
#: At most this many requirements are reported. LUKS2 defines four requirements.
MAX_REQUIREMENTS = 8
#: The largest number of commas in the JSON text. The number of commas shows roughly how many values the text
#: contains. A volume with as many key slots, segments, digests and tokens as cryptsetup allows has about two
#: thousand values. Without this limit, parsing the values that fit into 256 KiB would take more than 10 ms.
MAX_VALUES = 10_000
#: The number of digits of the largest 64-bit number.
MAX_DIGITS = 20
#: Names are cut to this many characters. cryptsetup's names for ciphers and requirements have a few dozen
#: characters.
MAX_NAME = 128
DYNAMIC = "dynamic"


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the encrypted disk. `offset` and `size` state the segment's place in the object, in bytes.

    If `size` is `None`, the segment extends to the end of the object.
    """

    offset: int
    size: int | None
    encryption: str
    sector_size: int
    #: Whether integrity tags are stored between the data, which means that the disk is smaller than the
    #: segment.
    has_integrity: bool
    #: Whether the segment is only a backup, which LUKS2 needs to recover an interrupted re-encryption.
    is_backup: bool


@dataclass(frozen=True, slots=True)
class Area:
    """The place of a key slot's key material in the object, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """The readable parts of the metadata. `problems` contains a sentence for each unreadable part."""

    segments: tuple[Segment, ...] = ()
    areas: tuple[Area, ...] = ()
    json_size: int | None = None
    keyslots_size: int | None = None
    requirements: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default_factory=tuple)


def parse(area: bytes) -> Metadata:
    """Parse the JSON area, which contains a text that ends at the first zero byte.

    This function raises no error for invalid content. `Metadata.problems` describes what is invalid.
    """
    text = area.split(b"\0", 1)[0]
    if text.count(b",") > MAX_VALUES:
        return Metadata(problems=("the LUKS2 metadata have more values than any volume needs",))
    try:
        root = json.loads(text.decode(), parse_int=_integer)
    except RecursionError:
        return Metadata(problems=("the LUKS2 metadata are nested too deeply",))
    except ValueError:
        # The JSON or the UTF-8 is invalid, or a number has too many digits.
        return Metadata(problems=("the LUKS2 metadata cannot be read",))
    return _Reader().metadata(root)


class _Reader:
    """Reads the values that Keyhole needs from the parsed JSON, and records invalid and missing values."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def metadata(self, root: object) -> Metadata:
        segments = [self._segment(entry) for entry in self._entries(root, "segments", MAX_SEGMENTS)]
        keyslots = self._entries(root, "keyslots", MAX_KEYSLOTS)
        areas = [self._area(_member(entry, "area")) for entry in keyslots]
        config = _member(root, "config")
        named = _member(_member(config, "requirements"), "mandatory")
        names = named[:MAX_REQUIREMENTS] if isinstance(named, list) else []
        return Metadata(
            segments=tuple(segment for segment in segments if segment is not None),
            areas=tuple(area for area in areas if area is not None),
            json_size=self._number(config, "json_size"),
            keyslots_size=self._number(config, "keyslots_size"),
            requirements=tuple(_name(name) for name in names),
            problems=tuple(self._problems),
        )

    def _segment(self, entry: object) -> Segment | None:
        offset = self._number(entry, "offset")
        stated = _member(entry, "size")
        size = None if stated == DYNAMIC else self._number(entry, "size")
        if offset is None or (size is None and stated != DYNAMIC):
            return None
        sector_size, flags = _member(entry, "sector_size"), _member(entry, "flags")
        return Segment(
            offset=offset,
            size=size,
            encryption=_name(_member(entry, "encryption")),
            sector_size=sector_size if isinstance(sector_size, int) and 0 < sector_size <= 4096 else 512,
            has_integrity=_member(entry, "integrity") is not None,
            is_backup=isinstance(flags, list) and any(_name(flag).startswith("backup-") for flag in flags),
        )

    def _area(self, entry: object) -> Area | None:
        offset, size = self._number(entry, "offset"), self._number(entry, "size")
        return None if offset is None or size is None else Area(offset, size)

    def _entries(self, root: object, name: str, limit: int) -> list[object]:
        """Return the first `limit` values of the JSON object `name`."""
        entries = _member(root, name)
        if not isinstance(entries, dict):
            self._problems.append(f"the LUKS2 metadata have no {name}")
            return []
        if len(entries) > limit:
            self._problems.append(
                f"the LUKS2 metadata have {len(entries)} {name}, but at most {limit} are valid"
            )
        return list(entries.values())[:limit]

    def _number(self, entry: object, name: str) -> int | None:
        """Return the value of `name`, a number of bytes, or `None` if the value is not a string of digits."""
        digits = _member(entry, name)
        sound = isinstance(digits, str) and digits.isascii() and digits.isdecimal()
        if not sound or not isinstance(digits, str) or len(digits) > MAX_DIGITS:
            self._problems.append(f"{name} in the LUKS2 metadata is not a number of bytes")
            return None
        return int(digits)


def _integer(digits: str) -> int:
    """Convert a JSON integer to `int`. LUKS2 uses only small integers, and converting a long integer is slow.

    Raises:
        ValueError: The integer has more than `MAX_DIGITS` digits.
    """
    if len(digits) > MAX_DIGITS:
        raise ValueError("a number of too many digits")
    return int(digits)


def _member(entry: object, name: str) -> object:
    return entry.get(name) if isinstance(entry, dict) else None


def _name(value: object) -> str:
    return printable(value[:MAX_NAME].encode("utf-8", "backslashreplace")) if isinstance(value, str) else ""
