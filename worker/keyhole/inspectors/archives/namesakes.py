r"""Finds files of an archive that have the same name, or names that some file systems treat as the same name.

If two files have the same name, an extractor overwrites the first file with the second, while some other
readers open the first file. On macOS and Windows, an extractor also overwrites `disk.img` with `DISK.IMG`,
because these systems ignore case. The table below lists all differences that file systems ignore.

Source: Apple File System Reference, "Case-insensitive"; Apple TN1150, "HFS Plus names" (ignored characters);
Microsoft, "Naming Files, Paths, and Namespaces"; libarchive, `cleanup_pathname_win`.

| file systems | ignored differences |
|---|---|
| APFS, HFS+ | case, composed and decomposed accents; HFS+ also characters without width |
| NTFS, FAT | case, dots and spaces at the end of a name; `\` and `/` both separate folders |
| NTFS and FAT, written by libarchive | `:*?"<>|`, because libarchive on Windows replaces them with `_` |

To save memory, Keyhole stores digests of the names and not the names.
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
    """Return a name's folded form, which is equal for names that a file system treats as the same name."""
    text = IGNORED.sub("", name.decode(errors="surrogateescape").translate(FORBIDDEN_BY_WINDOWS))
    alike = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    parts = (part.rstrip(ENDS_IGNORED_BY_WINDOWS) for part in SEPARATORS.split(alike))
    return "/".join(parts).encode(errors="surrogateescape")


class Namesakes:
    """Records the names of an archive's files, links and devices, and finds equal and similar names."""

    def __init__(self) -> None:
        #: The keys are the digests of all names. A value is the number of the last file with this name, or
        #: `None` if the name belongs to a link, a device or a file that is not inspected.
        self.numbers: dict[bytes, int | None] = {}
        self._twice: set[bytes] = set()
        # The keys are the digests of folded names. A value is the digest of the first name with this folded
        # form.
        self._folded: dict[bytes, bytes] = {}
        self._alike: set[bytes] = set()
        # The digests of each file's names, and the digest of the file's folded name. The index is the file's
        # number.
        self._known: list[tuple[list[bytes], bytes]] = []

    def give(self, name: bytes, number: int | None, also: bytes = b"") -> None:
        """Record a name, and the name `also` that some readers see instead.

        Files must come in the order of their numbers, which start at 0. `number` is `None` for a link, a
        device or a file that is not inspected.
        """
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
        """Yield findings if at least one of the given files shares its name with another file of the archive.

        `files` has the names of the files to check, by number.
        """
        twice = [number for number in files if not self._twice.isdisjoint(self._known[number][0])]
        alike = [number for number in files if self._known[number][1] in self._alike]
        if twice:
            names = _first_of(files[one] for one in twice)
            yield found("ambiguous_format", f"the archive has more than one file with the name {names}")
        if alike:
            names = _first_of(files[one] for one in alike)
            message = f"another file has a name that some file systems treat as equal to {names}"
            yield found("ambiguous_format", message)


def _first_of(names: Iterable[str]) -> str:
    first, *others = names
    return repr(first) + (f" (also {len(others)} more names)" if others else "")
