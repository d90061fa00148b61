"""Runs all inspectors over one object at once: finds its format, its facts, and the bytes still wanted.

Readers decide on a format in several ways (see `readers`). So an inspection looks in all the places where
readers look, even if one place has settled the format:

- Its first bytes decide which formats with a magic number are possible.
- The string at its beginning may be a descriptor that readers of VMDKs accept, even if the string is only a
  part of the object.
- A footer or trailer at its end makes it a VHD or a DMG.
- A disc, a partition table or a volume may lie in it.
- Marks of formats that are not inspected (`unsupported`) are looked for at its front and end.

Two formats at once are a finding. The content of a disk is not a second format. Examples are a partition
table or a disc on a fixed VHD or in a DMG, and a partition table on a hybrid ISO.
"""

from collections.abc import Callable

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.catalogue import BY_END, BY_PREFIX, CONTAINERS, FRONT_BYTES
from keyhole.inspectors.effort import spend
from keyhole.inspectors.errors import ImageFormatError
from keyhole.inspectors.facts import Facts, Wholeness
from keyhole.inspectors.findings import Finding, Severity, found
from keyhole.inspectors.formats.iso import ISOInspector
from keyhole.inspectors.formats.raw import RawDiskInspector
from keyhole.inspectors.formats.vmdk.text import VMDKTextInspector
from keyhole.inspectors.inside import Inside
from keyhole.inspectors.region import ByteRange, CaptureRegion
from keyhole.inspectors.unsupported import UnsupportedFormats

#: Checks whose findings contradict that the image is whole, even if its format proves it.
NOT_WHOLE = frozenset({"truncated", "checksum_mismatch", "structure", "size_mismatch"})
#: The formats that the object's first bytes decide.
KNOWN_BY_PREFIX: frozenset[type[FileInspector]] = frozenset((*BY_PREFIX, *CONTAINERS))
#: Formats whose disk is as long as the object, or ends where the object ends.
SIZED_BY_LENGTH = frozenset({"raw", "iso", "luks"})


def _is_part(one: FileInspector, of: FileInspector) -> bool:
    """Whether what `one` recognises is part of the format `of`, and not a second format."""
    return of.explains(one) or (type(of) in KNOWN_BY_PREFIX and one.is_remnant_in(of))


class Inspection:
    """The inspection of one object by all inspectors.

    Args:
        tracing: Passed on to the inspectors.
        inside: How deep the object lies in containers, and how its content may be inspected.
    """

    def __init__(self, tracing: bool = False, inside: Inside | None = None) -> None:
        self._tracing = tracing
        self._inside = inside or Inside()
        self._front = CaptureRegion(0, FRONT_BYTES)
        self._narrowed = False
        # In order of precedence: the first that matches names the object's format. Empty until the front has
        # arrived.
        self._by_front: list[FileInspector] = []
        self._by_end: list[FileInspector] = []
        self._text = VMDKTextInspector(tracing)
        self._unsupported = UnsupportedFormats(tracing)
        self._disc = ISOInspector(tracing)
        self._disk = RawDiskInspector(tracing)
        self._errors: dict[FileInspector, str] = {}
        self._position = 0
        self._highest = 0
        self._size: int | None = None

    # What goes in

    def eat_chunk(self, chunk: bytes) -> None:
        """Present the next chunk of a stream."""
        position = self._position
        self._position += len(chunk)
        self.feed(position, chunk)

    def feed(self, offset: int, data: bytes) -> None:
        """Present bytes from anywhere: `data` begins at the absolute `offset`.

        Calls may come in any order, and their ranges may overlap.
        """
        if not data:
            return
        self._highest = max(self._highest, offset + len(data))
        if not self._narrowed:
            self._front.put(offset, data)
            self._narrow(shown=data if offset == 0 else b"")
        self._each(lambda inspector: inspector.feed(offset, data))

    def finish(self, size: int | None = None) -> None:
        """Set the object's length: `size` bytes or, for a stream that has ended, as many as were eaten."""
        self._size = self._highest if size is None else size
        self._each(lambda inspector: inspector.finish(self._size))
        self._narrow()

    def close(self) -> None:
        """Release the memory; see `FileInspector.close`."""
        for inspector in self._candidates:
            inspector.close()

    # What is still wanted

    def missing(self) -> list[ByteRange]:
        """The absolute byte ranges that are still wanted, in ascending order; they may overlap."""
        wanted = set(self._front.gaps(self._size))
        for inspector in self._wanting:
            if inspector is self._disk and not self._between_matters:
                wanted.update(self._disk.missing_but_between())
            else:
                wanted.update(inspector.missing())
        return sorted(wanted)

    @property
    def complete(self) -> bool:
        """Whether everything wanted has arrived, or can no longer matter."""
        return self._narrowed and all(
            self._disk.complete_but_between
            if inspector is self._disk and not self._between_matters
            else inspector.complete
            for inspector in self._wanting
        )

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes each inspector's regions hold in memory, as `format:region`."""
        return {
            f"{inspector}:{name}": held
            for inspector in self._candidates
            for name, held in inspector.context_info.items()
        }

    # What comes out

    @property
    def matches(self) -> list[FileInspector]:
        """The inspectors that recognise the object, except those that match only the content of the disk."""
        matches = [inspector for inspector in self._candidates if inspector.format_match]
        return [one for one in matches if not any(_is_part(one, of) for of in matches)]

    def facts(self) -> Facts:
        """The facts as they are known now. They are final once the length is known and nothing is missing."""
        matches = self.matches
        size = self._highest if self._size is None else self._size
        if not matches:
            marks = {"marks": list(self._unsupported.names)} if self._unsupported.names else {}
            return Facts(
                None, None, None, size, (), marks, complete=self.complete, first_bytes=self._disk.front
            )
        first = matches[0]
        broken = first in self._errors
        findings = tuple(self._findings(matches))
        # Findings for only some readers, and findings of severity `INFO`, do not make the image less whole.
        proven = first.complete and not any(
            finding.check in NOT_WHOLE and not finding.readers and finding.severity is not Severity.INFO
            for finding in findings
        )
        return Facts(
            format=str(first),
            subformat=None if broken else first.subformat,
            virtual_size=None if broken else self._virtual_size(first),
            actual_size=size,
            content=self._content(first),
            details={} if broken else dict(first.details()),
            findings=findings,
            wholeness=first.wholeness if proven else Wholeness.UNCHECKED,
            complete=self.complete,
            members=() if broken else first.members(),
            other_sizes={} if broken else dict(first.other_sizes()),
        )

    @property
    def is_container(self) -> bool:
        """Whether the object is a container, whose members may cost more than a single image may."""
        return any(inspector.IS_CONTAINER for inspector in self.matches)

    @property
    def holds_much(self) -> bool:
        """Whether the object, or something inside it, is being decompressed."""
        return any(inspector.holds_much for inspector in self._by_front)

    def _virtual_size(self, first: FileInspector) -> int | None:
        if self._size is None and str(first) in SIZED_BY_LENGTH:
            return None
        return first.virtual_size or None

    def _findings(self, matches: list[FileInspector]) -> list[Finding]:
        findings: list[Finding] = []
        names = [str(inspector) for inspector in matches]
        names += [name for name in self._unsupported.names if name not in names]
        if len(names) > 1:
            findings.append(found("ambiguous_format", f"the object is {' and '.join(names)} at once"))
        for inspector in matches:
            spend()
            if inspector in self._errors:
                findings.append(found("structure", self._errors[inspector]))
            else:
                findings.extend(inspector.checks())
        return findings

    def _content(self, first: FileInspector) -> tuple[str, ...]:
        """The content of the disk, if the disk's bytes are the object's own."""
        if first in self._by_front or first is self._text:
            return first.content
        if not first.is_bare:
            return ()
        # The content of an ISO is named first, then the partition table that makes the ISO a hybrid.
        return (*self._disc.content, *self._disk.content)

    # Which inspectors take part

    def _narrow(self, shown: bytes = b"") -> None:
        """Once the front is here, choose the inspectors that can match.

        Feed them the front, unless the caller is about to feed them `shown`, which includes the front.
        """
        if self._narrowed or self._front.gaps(self._size):
            return
        self._narrowed = True
        front = self._front.data
        self._by_front = [
            *(self._new(kind) for kind in BY_PREFIX if kind.matches_prefix(front)),
            *(kind(self._tracing, self._inside) for kind in CONTAINERS if kind.matches_prefix(front)),
        ]
        known = {type(inspector) for inspector in self._by_front}
        self._by_end = [self._new(kind) for kind in BY_END if kind not in known]
        # If the first bytes are those of an image, only they may hold a volume's superblock. The bytes after
        # them are the guest's data.
        self._disk = RawDiskInspector(self._tracing, volumes=not self._by_front)
        if len(shown) < len(front):
            self._each(lambda inspector: inspector.feed(0, front))
        if self._size is not None:
            self._each(lambda inspector: inspector.finish(self._size))

    def _new(self, kind: type[FileInspector]) -> FileInspector:
        inspector = kind(self._tracing)
        inspector.thorough = self._inside.thorough
        return inspector

    @property
    def _between_matters(self) -> bool:
        """Whether to look for volumes between front and end: only once no format can match by the end."""
        return all(inspector.complete and not inspector.format_match for inspector in self._by_end)

    @property
    def _candidates(self) -> list[FileInspector]:
        if not self._narrowed:
            return []
        return [*self._by_front, self._text, *self._by_end, self._unsupported, self._disc, self._disk]

    @property
    def _following(self) -> list[FileInspector]:
        """The candidates that have not failed on this image."""
        return [inspector for inspector in self._candidates if inspector not in self._errors]

    @property
    def _wanting(self) -> list[FileInspector]:
        """The inspectors whose missing ranges are worth fetching now."""
        following = self._following
        if self._size is None:
            return following
        ends = [one for one in self._by_end if one not in self._errors]
        return [one for one in following if not any(end.defers(one) for end in ends)]

    def _each(self, call: Callable[[FileInspector], None]) -> None:
        """Call every candidate. If one fails on the image, keep the error and leave that candidate out."""
        for inspector in self._following:
            try:
                call(inspector)
            except ImageFormatError as error:
                self._errors[inspector] = str(error)


def _open(inside: Inside) -> Inspection:
    return Inspection(inside=inside)


def _format_by_prefix(front: bytes) -> str | None:
    return next((kind.NAME for kind in BY_PREFIX if kind.matches_prefix(front)), None)


Inside.opener = _open
Inside.format_by_prefix = _format_by_prefix
