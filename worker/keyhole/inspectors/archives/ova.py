"""OVA: a virtual machine in a tar archive, with a descriptor that names its files.

Source: DMTF DSP0243 2.1.1, section 6.4: the descriptor comes first, then perhaps a manifest and a
certificate, then the files in the order of the references.

An archive with a descriptor (see `ovf.appliance`) is an OVA, any other is `tar`. The files and disks that the
descriptor names are compared with those in the archive. A file that the descriptor names as a disk is a
member, however small. A file in chunks is one member, and its chunks are not members. XenServer's archives
are recognised, too (`xva`).

The digests in the manifest are not checked, because that would require reading every byte.

Wholeness: as for any tar archive. An archive without an end mark is also proven whole if it has all files
that the descriptor names.
"""

from collections.abc import Generator, Mapping

from keyhole.inspectors.archives.ovf.machine import Machine, join_chunks
from keyhole.inspectors.archives.tar.inspector import End, TarInspector
from keyhole.inspectors.archives.xva import NAME as XVA_NAME
from keyhole.inspectors.archives.xva import XVA
from keyhole.inspectors.extents import ExtentMap
from keyhole.inspectors.facts import Member, Wholeness
from keyhole.inspectors.findings import Finding
from keyhole.inspectors.inside import Inside
from keyhole.inspectors.region import ByteRange

#: The ways in which a walk ends that has seen the whole archive.
SEEN = frozenset({End.MARKED, End.UNMARKED})


class OVAInspector(TarInspector):
    """A tar archive, which is an OVA if it has a descriptor."""

    def __init__(self, tracing: bool = False, inside: Inside | None = None) -> None:
        super().__init__(tracing, inside)
        self._machine = Machine()
        self._xva = XVA()

    def __str__(self) -> str:
        return "ova" if self._machine.is_one else self.NAME

    def looks_at(self, name: bytes, extents: ExtentMap) -> Generator[ByteRange | None, bytes, bool]:
        """Whether to inspect the next file. The machine may read a part of the file to decide."""
        if self._xva.takes(name):
            return False
        look = self._machine.add(name, extents.size, extents)
        if look.wanted and extents.place is not None:
            self._machine.read((yield ByteRange(extents.place, look.wanted)))
        return look.is_member

    def post_process(self) -> None:
        """Continue the walk. Once it has ended, join files in chunks."""
        super().post_process()
        if self._ended is None:
            return
        if not self._machine.is_settled:
            self._machine.settle(all_seen=self._ended in SEEN)
            self._decisive.update(self._machine.chunks())
        join_chunks(self._machine, self, self._namesakes)

    # What comes out

    @property
    def complete(self) -> bool:
        """Whether all wanted bytes are here, and all files in chunks have been joined and inspected."""
        return super().complete and (self._ended is None or self._machine.is_settled)

    @property
    def subformat(self) -> str | None:
        """`xva` for an archive of XenServer."""
        return XVA_NAME if self._xva.is_one else super().subformat

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the archive has an end mark, or has all files that the descriptor names."""
        if self._ended is End.UNMARKED and self._machine.all_there:
            return Wholeness.PROVEN
        return super().wholeness

    def details(self) -> Mapping[str, object]:
        """The details of any tar archive, and the number of disks for which the descriptor names a file."""
        details, disks = super().details(), self._machine.disks
        if disks is None:
            return details
        return {"disks": disks, **details, "other_files": self._machine.other_files(self._numbered())}

    def checks(self) -> list[Finding]:
        """Findings on the archive, and on contradictions between it and the descriptor."""
        if not self.format_match:
            return []
        kept, members = super()._numbered(), self._numbered()
        seen = self._ended in SEEN
        return [
            *super().checks(),
            *self._xva.findings(),
            *self._machine.findings(kept, members, all_seen=seen),
        ]

    def _numbered(self) -> dict[int, Member]:
        """The members by number, changed by the descriptor: see `Machine.members`."""
        return self._machine.members(super()._numbered(), self._open)
