"""All inspectors over one object at once: its format, what that says, and what is still wanted.

Which inspectors count is decided by the first bytes alone. Where a magic number at the front matches, only
the formats that match there are followed; where none does, those that are known by other marks (a footer at
the end, a partition table). That keeps the answer the same however the bytes come, and spares the end of an
object that its front explains.
"""

from worker.inspectors.base import FileInspector
from worker.inspectors.errors import ImageFormatError
from worker.inspectors.facts import Facts, Wholeness
from worker.inspectors.findings import Finding, found
from worker.inspectors.foreign import named_by
from worker.inspectors.qcow import QcowInspector
from worker.inspectors.raw import RawDiskInspector
from worker.inspectors.region import ByteRange, CaptureRegion
from worker.inspectors.vdi import VDIInspector
from worker.inspectors.vhd import VHDInspector
from worker.inspectors.vhdx import VHDXInspector
from worker.inspectors.vmdk import VMDKInspector

#: What contradicts every proof that an image is whole.
NOT_WHOLE = frozenset({"truncated", "checksum_mismatch", "structure", "size_mismatch"})
#: As much of the front as the formats known by it need to be told: VDI's signature ends at 0x44.
FRONT_BYTES = 512


class Inspection:
    """One object seen by every inspector.

    Args:
        tracing: Passed on to the inspectors.
    """

    def __init__(self, tracing: bool = False) -> None:
        self._front = CaptureRegion(0, FRONT_BYTES)
        self._vhd = VHDInspector(tracing)
        self._disk = RawDiskInspector(tracing)
        by_front = (QcowInspector, VHDXInspector, VMDKInspector, VDIInspector)
        self._candidates: list[FileInspector] = [*(kind(tracing) for kind in by_front), self._vhd, self._disk]
        self._narrowed = False
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
        """Present bytes from anywhere: `data` begins at the absolute `offset`. Any order, any overlap."""
        if not data:
            return
        self._highest = max(self._highest, offset + len(data))
        for inspector in self._candidates:
            try:
                inspector.feed(offset, data)
            except ImageFormatError as error:
                self._errors.setdefault(inspector, str(error))
        if not self._narrowed:
            self._front.put(offset, data)
            self._narrow()

    def finish(self, size: int | None = None) -> None:
        """Make the object's length known: `size` bytes, or for a stream that has ended what was eaten."""
        self._size = self._highest if size is None else size
        for inspector in self._candidates:
            try:
                inspector.finish(self._size)
            except ImageFormatError as error:
                self._errors.setdefault(inspector, str(error))
        self._narrow()

    # What is still wanted

    def missing(self) -> list[ByteRange]:
        """The absolute byte ranges that are still wanted, in ascending order; they may overlap."""
        wanted = set(self._front.gaps(self._size))
        for inspector in self._following:
            wanted.update(inspector.missing())
        return sorted(wanted)

    @property
    def complete(self) -> bool:
        """Whether everything wanted is here, or can no longer matter."""
        return self._narrowed and all(inspector.complete for inspector in self._following)

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
        """The inspectors that recognise the object. The disk on a fixed VHD is content, no second format."""
        matches = [inspector for inspector in self._candidates if inspector.format_match]
        if self._vhd in matches and not self._vhd.head_match and self._disk in matches:
            matches.remove(self._disk)
        return matches

    def facts(self) -> Facts:
        """What is known now. It is final once the object's length is known and nothing is missing."""
        matches = self.matches
        size = self._highest if self._size is None else self._size
        if not matches:
            return Facts(None, None, None, size, (), complete=self.complete)
        first = matches[0]
        broken = first in self._errors
        findings = tuple(self._findings(matches))
        proven = first.complete and not any(finding.check in NOT_WHOLE for finding in findings)
        return Facts(
            format=str(first),
            subformat=None if broken else first.subformat,
            virtual_size=None if broken else first.virtual_size or None,
            actual_size=size,
            content=self._disk.content if first in (self._vhd, self._disk) else (),
            details={} if broken else dict(first.details()),
            findings=findings,
            wholeness=first.wholeness if proven else Wholeness.UNCHECKED,
            complete=self.complete,
        )

    def _findings(self, matches: list[FileInspector]) -> list[Finding]:
        findings: list[Finding] = []
        names = [str(inspector) for inspector in matches]
        # A disk or a fixed VHD has its marks at the end looked at; where another format explains the front,
        # nothing is known of the end.
        trailer = self._vhd.captured("footer") if self._vhd in self._candidates else b""
        if foreign := named_by(self._front.data, trailer):
            names.append(foreign)
        if len(names) > 1:
            findings.append(found("ambiguous_format", f"the object is {' and '.join(names)} at once"))
        for inspector in matches:
            if inspector in self._errors:
                findings.append(found("structure", self._errors[inspector]))
            else:
                findings.extend(inspector.checks())
        return findings

    # Who takes part

    def _narrow(self) -> None:
        """Once the front is here, leave the inspectors that can match, and let go of what the others hold."""
        if self._narrowed or self._front.gaps(self._size):
            return
        self._narrowed = True
        by_front = [inspector for inspector in self._candidates if self._matches_front(inspector)]
        # A partition table in the first sector of an image is a second format; a footer at its end is not
        # looked for.
        self._candidates = [*by_front, self._disk] if by_front else [self._vhd, self._disk]

    @property
    def _following(self) -> list[FileInspector]:
        """The candidates whose wants are worth fetching."""
        return [inspector for inspector in self._candidates if inspector not in self._errors]

    def _matches_front(self, inspector: FileInspector) -> bool:
        if inspector is self._vhd:
            return self._vhd.head_match
        return inspector is not self._disk and inspector.format_match
