"""Runs all inspectors on one object to find its format, its facts, and the ranges that are still needed.

Readers determine an object's format in several ways (see `readers`). An inspection therefore checks every
place where a reader searches for a format, even if the format is already known from another place:

- The first bytes show which formats with a magic number are possible.
- The text at the beginning can be a VMDK descriptor. Some readers accept other data after the descriptor, so
  the inspection checks the text in objects of every length.
- A footer or trailer at the end shows that the object is a VHD or a DMG.
- An optical disc, a partition table or a volume can lie in the object.
- The first and last bytes can contain marks of formats that Keyhole does not inspect (`unsupported`).

An object with two formats gets a finding. The content of a disk is not a second format. Examples of such
content are a partition table or an optical disc on a fixed VHD or in a DMG, and a partition table on a hybrid
ISO.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.catalogue import BY_END, BY_PREFIX, CONTAINERS, FRONT_BYTES, KnownBy
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

if TYPE_CHECKING:
    from keyhole.inspectors.container import ContainerInspector

#: If one of these checks has a finding, the inspection reports `UNCHECKED`, even if the format's inspector
#: has proven that the image is whole. With `unsupported_subformat`, the inspector's proof covers only the
#: part that it understands, and the image can have other parts.
NOT_WHOLE = frozenset(
    {"truncated", "checksum_mismatch", "structure", "size_mismatch", "unsupported_subformat"}
)
#: The inspectors that every inspection uses to search the object's end.
AT_END = tuple(one.inspector for one in BY_END)
#: The inspectors in `AT_END` that also recognise an object by its first bytes.
AT_BOTH_ENDS = frozenset(one.inspector for one in BY_END if KnownBy.PREFIX in one.known_by)
#: Formats in which the size of the disk depends on the length of the object.
SIZED_BY_LENGTH = frozenset({"raw", "iso", "luks"})


class Inspection:
    """The inspection of one object by all inspectors.

    Args:
        tracing: See `FileInspector`.
        inside: How deep the object is nested in containers, and the limits for inspecting its content.
    """

    def __init__(self, tracing: bool = False, inside: Inside | None = None) -> None:
        self._tracing = tracing
        self._inside = inside or Inside()
        self._front = CaptureRegion(0, FRONT_BYTES)
        self._narrowed = False
        # The inspectors that recognise the object's front, in order of precedence. The object has the format
        # of the first inspector that matches. The list is empty until the front has arrived.
        self._by_front: list[FileInspector] = []
        self._by_end: list[FileInspector] = []
        self._text = VMDKTextInspector(tracing)
        self._unsupported = UnsupportedFormats(tracing)
        self._disc = ISOInspector(tracing)
        self._disk = RawDiskInspector(tracing)
        # `_candidates` contains all inspectors that can match the object. `_following` contains the
        # candidates that have not raised an `ImageFormatError`. Both lists are empty until the front has
        # arrived.
        self._candidates: list[FileInspector] = []
        self._following: list[FileInspector] = []
        self._errors: dict[FileInspector, str] = {}
        self._position = 0
        self._highest = 0
        self._size: int | None = None

    # Input

    def eat_chunk(self, chunk: bytes) -> None:
        """Pass the next chunk of a stream to the inspection."""
        position = self._position
        self._position += len(chunk)
        self.feed(position, chunk)

    def feed(self, offset: int, data: bytes) -> None:
        """Pass bytes from any place in the object: `data` begins at the absolute `offset`.

        The caller can pass ranges in any order, and the ranges can overlap.
        """
        if not data:
            return
        self._highest = max(self._highest, offset + len(data))
        if not self._narrowed:
            self._front.put(offset, data)
            self._narrow(shown=data if offset == 0 else b"")
        self._each(lambda inspector: inspector.feed(offset, data))

    def finish(self, size: int | None = None) -> None:
        """Set the object's length to `size` bytes or, without `size`, to the end of the bytes passed so far.

        Call it without `size` when a stream has ended.
        """
        self._size = self._highest if size is None else size
        self._each(lambda inspector: inspector.finish(self._size))
        self._narrow()

    def close(self) -> None:
        """Release the reserved memory; see `FileInspector.close`."""
        for inspector in {*self._candidates, self._text, self._unsupported, self._disc, self._disk}:
            inspector.close()
        self._candidates, self._following = [], []

    # Missing ranges

    def missing(self) -> list[ByteRange]:
        """Return the absolute byte ranges that are still needed, in ascending order. They can overlap."""
        if not self._narrowed:
            return self._front.gaps(self._size)
        wanted: set[ByteRange] = set()
        for inspector in self._wanting:
            if inspector is self._disk and not self._between_matters:
                wanted.update(self._disk.missing_but_between())
            else:
                wanted.update(inspector.missing())
        return sorted(wanted)

    @property
    def complete(self) -> bool:
        """Whether the inspection needs no more bytes."""
        return self._narrowed and all(
            self._disk.complete_but_between
            if inspector is self._disk and not self._between_matters
            else inspector.complete
            for inspector in self._wanting
        )

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes of each region are in memory. The keys are `format:region`."""
        return {
            f"{inspector}:{name}": held
            for inspector in self._candidates
            for name, held in inspector.context_info.items()
        }

    # Facts

    @property
    def matches(self) -> list[FileInspector]:
        """The inspectors that recognise the object.

        Inspectors that recognise only a part of the image are left out.
        """
        matches = [inspector for inspector in self._candidates if inspector.format_match]
        return [one for one in matches if not any(self._is_part(one, of) for of in matches)]

    def _is_part(self, one: FileInspector, of: FileInspector) -> bool:
        """Return whether the data that `one` recognises are only a part of the image that `of` recognises."""
        known_by_prefix = of in self._by_front or type(of) in AT_BOTH_ENDS
        return of.explains(one) or (known_by_prefix and one.is_remnant_in(of))

    def facts(self) -> Facts:
        """Return the facts that are known so far.

        The facts are final once the caller has set the length and `missing` returns no ranges.
        """
        matches = self.matches
        size = self._highest if self._size is None else self._size
        if not matches:
            marks = {"marks": list(self._unsupported.marks)} if self._unsupported.marks else {}
            return Facts(
                None, None, None, size, (), marks, complete=self.complete, first_bytes=self._disk.front
            )
        first = matches[0]
        broken = first in self._errors
        findings = tuple(self._findings(matches))
        # Findings that concern only some readers, and findings with severity `INFO`, do not affect wholeness.
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
            also_valid_as=tuple(name for name, _ in self._valid_as(matches)[1:]),
        )

    @property
    def is_container(self) -> bool:
        """Whether the object is a container, so that the scan uses the larger budget for containers."""
        # A container is recognised only by its front, so `matches` does not need to run for other objects.
        return any(inspector.IS_CONTAINER for inspector in self._by_front) and any(
            inspector.IS_CONTAINER for inspector in self.matches
        )

    @property
    def holds_much(self) -> bool:
        """Whether the object or one of its members is being decompressed."""
        return any(inspector.holds_much for inspector in self._by_front)

    def _virtual_size(self, first: FileInspector) -> int | None:
        if self._size is None and str(first) in SIZED_BY_LENGTH:
            return None
        return first.virtual_size or None

    def _valid_as(self, matches: list[FileInspector]) -> list[tuple[str, str]]:
        """Return the formats in which the object is valid, also unsupported ones: their names and marks."""
        names = {str(inspector) for inspector in matches}
        others = [(name, mark) for name, mark in self._unsupported.marks.items() if name not in names]
        return [*((str(inspector), inspector.mark) for inspector in matches), *others]

    def _findings(self, matches: list[FileInspector]) -> list[Finding]:
        findings: list[Finding] = []
        valid_as = self._valid_as(matches)
        if len(valid_as) > 1:
            formats = " and ".join(f"{name} ({mark})" for name, mark in valid_as)
            findings.append(found("ambiguous_format", f"the object is valid as {formats} at once"))
        for inspector in matches:
            spend()
            if inspector in self._errors:
                findings.append(found("structure", self._errors[inspector]))
            else:
                findings.extend(inspector.checks())
        return findings

    def _content(self, first: FileInspector) -> tuple[str, ...]:
        """Return the content of the disk, if the object stores the bytes of the disk unchanged."""
        if first in self._by_front or first is self._text:
            return first.content
        if not first.is_bare:
            return ()
        # Report the content of an ISO before the partition table of a hybrid ISO.
        return (*self._disc.content, *self._disk.content)

    # The choice of inspectors

    def _narrow(self, shown: bytes = b"") -> None:
        """Choose the inspectors that can match the object, as soon as the front has arrived.

        The chosen inspectors also need the bytes of the front, which arrived before the choice. `shown` is a
        piece that begins at offset 0 and that `feed` passes to the chosen inspectors after this call. If
        `shown` does not contain the whole front, this method passes the front to them.
        """
        if self._narrowed or self._front.gaps(self._size):
            return
        self._narrowed = True
        front = self._front.data
        self._by_front = [
            *(self._new(one.inspector) for one in BY_PREFIX if one.matches_prefix(front)),
            *(self._new_container(one.inspector) for one in CONTAINERS if one.matches_prefix(front)),
        ]
        known = {type(inspector) for inspector in self._by_front}
        self._by_end = [self._new(kind) for kind in AT_END if kind not in known]
        # If the first bytes are the header of an image, the guest's data follow the header, and superblocks
        # in them belong to the guest. So search for superblocks of volumes only near the object's beginning.
        self._disk.close()
        self._disk = RawDiskInspector(self._tracing, volumes=not self._by_front)
        self._candidates = [
            *self._by_front,
            self._text,
            *self._by_end,
            self._unsupported,
            self._disc,
            self._disk,
        ]
        self._following = list(self._candidates)
        if len(shown) < len(front):
            self._each(lambda inspector: inspector.feed(0, front))
        if self._size is not None:
            self._each(lambda inspector: inspector.finish(self._size))

    def _new(self, kind: type[FileInspector]) -> FileInspector:
        inspector = kind(self._tracing)
        inspector.thorough = self._inside.thorough
        return inspector

    def _new_container(self, kind: type[FileInspector]) -> FileInspector:
        return cast("type[ContainerInspector]", kind)(self._tracing, self._inside)

    @property
    def _between_matters(self) -> bool:
        """Whether to search for volumes between front and end.

        This is necessary only if no format was recognised by the object's end: a footer or trailer at the end
        already determines the format.
        """
        return all(inspector.complete and not inspector.format_match for inspector in self._by_end)

    @property
    def _wanting(self) -> list[FileInspector]:
        """The inspectors whose missing ranges the caller should fetch now."""
        wanting = self._following
        if self._size is not None:
            for end in self._by_end:
                if end not in self._errors:
                    wanting = [one for one in wanting if not end.defers(one)]
        return wanting

    def _each(self, call: Callable[[FileInspector], None]) -> None:
        """Call `call` for every inspector that has not failed.

        Store the `ImageFormatError` of each inspector that fails now.
        """
        failed = False
        for inspector in self._following:
            try:
                call(inspector)
            except ImageFormatError as error:
                self._errors[inspector] = str(error)
                failed = True
        if failed:
            self._following = [one for one in self._candidates if one not in self._errors]


def _open(inside: Inside) -> Inspection:
    return Inspection(inside=inside)


def _format_by_prefix(front: bytes) -> str | None:
    return next((one.name for one in BY_PREFIX if one.matches_prefix(front)), None)


Inside.opener = _open
Inside.format_by_prefix = _format_by_prefix
