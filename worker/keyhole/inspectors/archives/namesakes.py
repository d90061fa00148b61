r"""Files of an archive that share a name, either exactly or on a file system that ignores a difference.

An extractor overwrites the earlier file with the later one, and other readers take the first one. macOS and
Windows also overwrite `disk.img` with `DISK.IMG`: both ignore case, and each ignores further differences.

Source: Apple File System Reference, "Case-insensitive"; Apple TN1150, "HFS Plus names" (ignored characters);
Microsoft, "Naming Files, Paths, and Namespaces"; libarchive, `cleanup_pathname_win`.

| file systems | ignored differences |
|---|---|
| APFS, HFS+ | case, composed and decomposed accents; HFS+ also characters without width |
| NTFS, FAT | case, dots and spaces at the end of a name; `\` and `/` both separate folders |
| files written by libarchive on Windows | `:*?"<>|`, each of which becomes `_` |

Only digests of the names are kept.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from keyhole.inspectors.archives.names import digest
from keyhole.inspectors.findings import Finding, found

SEPARATORS = re.compile(r"[/\\]")
#: Characters that Windows does not allow in names.
FORBIDDEN_BY_WINDOWS = str.maketrans(dict.fromkeys(':*?"<>|', "_"))
#: Characters that HFS+ ignores: joiners, direction marks, digit shapes, the byte order mark.
IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
ENDS_IGNORED_BY_WINDOWS = ". "


def folded(name: bytes) -> bytes:
    """Return a name without the differences that any of these file systems ignores."""
    text = IGNORED.sub("", name.decode(errors="surrogateescape").translate(FORBIDDEN_BY_WINDOWS))
    alike = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    parts = (part.rstrip(ENDS_IGNORED_BY_WINDOWS) for part in SEPARATORS.split(alike))
    return "/".join(parts).encode(errors="surrogateescape")


class Namesakes:
    """The names in an archive so far, and which of them occur twice."""

    def __init__(self) -> None:
        #: The number of the file with a name, by the name's digest; `None` if it is not a file.
        self.numbers: dict[bytes, int | None] = {}
        self._twice: set[bytes] = set()
        # The digest of the first name with each folded name.
        self._folded: dict[bytes, bytes] = {}
        self._alike: set[bytes] = set()
        # The digests of each numbered file's names, and that of its folded name.
        self._known: list[tuple[list[bytes], bytes]] = []

    def give(self, name: bytes, number: int | None, also: bytes = b"") -> None:
        """Note a name, and the name `also` that some readers read instead. File numbers count up from 0."""
        names = [digest(name), *([digest(also)] if also else [])]
        for one in names:
            if one in self.numbers:
                self._twice.add(one)
            self.numbers.setdefault(one, None)
        self.numbers[names[0]] = number
        fold = digest(folded(name))
        if self._folded.setdefault(fold, names[0]) != names[0]:
            self._alike.add(fold)
        if number is not None:
            self._known.append((names, fold))

    def findings(self, files: Mapping[int, str]) -> Iterator[Finding]:
        """Findings on shared names among the files that matter, given as names by file number."""
        twice = [number for number in files if not self._twice.isdisjoint(self._known[number][0])]
        alike = [number for number in files if self._known[number][1] in self._alike]
        if twice:
            yield found("ambiguous_format", f"there are two of {_first_of(files[one] for one in twice)}")
        if alike:
            yield found(
                "ambiguous_format",
                f"some file systems do not tell {_first_of(files[one] for one in alike)} from another name",
            )


def _first_of(names: Iterable[str]) -> str:
    first, *others = names
    return repr(first) + (f" and of {len(others)} others" if others else "")
