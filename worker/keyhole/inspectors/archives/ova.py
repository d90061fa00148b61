"""Inspects OVA files: a tar archive with a virtual machine and a descriptor that names the machine's files.

Source: DMTF DSP0243 2.1.1, section 6.4. The descriptor comes first, then an optional manifest and an optional
certificate, then the files in the order in which the descriptor names them.

The format of a tar archive is `ova` if the archive has a descriptor (see `ovf.appliance`), and otherwise
`tar`. Keyhole compares the files and disks that the descriptor names with the files in the archive. If the
descriptor names a file as a disk, Keyhole reports the file as a member, even if the file is small. If the
archive stores a file in chunks, Keyhole reports the joined file and not its chunks. Keyhole also recognises
the archives of XenServer (`xva`).

Keyhole does not check the digests in the manifest, because it would have to read every byte of the files.

Wholeness: proven if the archive has an end mark, as for every tar archive. An archive without an end mark is
proven whole if it ends after a complete member and has all files that the descriptor names.
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

#: The ways in which the walk through the archive's headers can end after it has passed all members.
SEEN = frozenset({End.MARKED, End.UNMARKED})


class OVAInspector(TarInspector):
    """Inspects a tar archive. The archive is an OVA if it contains an OVF descriptor."""

    def __init__(self, tracing: bool = False, inside: Inside | None = None) -> None:
        super().__init__(tracing, inside)
        self._machine = Machine()
        self._xva = XVA()

    def __str__(self) -> str:
        return "ova" if self._machine.is_one else self.NAME

    def looks_at(self, name: bytes, extents: ExtentMap) -> Generator[ByteRange | None, bytes, bool]:
        """Return whether to inspect the archive's next file as a possible member.

        This method is a generator: if `Machine.read` needs a part of the file, it first yields the range of
        this part.
        """
        if self._xva.takes(name):
            return False
        look = self._machine.add(name, extents.size, extents)
        if look.wanted and extents.place is not None:
            self._machine.read((yield ByteRange(extents.place, look.wanted)))
        return look.is_member

    def post_process(self) -> None:
        """Continue the walk. After the walk, join and inspect the files that are stored in chunks."""
        super().post_process()
        if self._ended is None:
            return
        if not self._machine.is_settled:
            self._machine.settle(all_seen=self._ended in SEEN)
            self._decisive.update(self._machine.chunks())
        join_chunks(self._machine, self, self._namesakes)

    # Facts

    @property
    def complete(self) -> bool:
        """Whether all wanted bytes have arrived, and all files in chunks have been joined and inspected."""
        return super().complete and (self._ended is None or self._machine.is_settled)

    @property
    def subformat(self) -> str | None:
        """`xva` if XenServer or XCP-ng wrote the archive."""
        return XVA_NAME if self._xva.is_one else super().subformat

    @property
    def wholeness(self) -> Wholeness:
        """Proven if the archive has an end mark, or has all files that the descriptor names."""
        if self._ended is End.UNMARKED and self._machine.all_there:
            return Wholeness.PROVEN
        return super().wholeness

    def details(self) -> Mapping[str, object]:
        """The details of a tar archive, and the number of disks for which the descriptor names a file."""
        details, disks = super().details(), self._machine.disks
        if disks is None:
            return details
        return {"disks": disks, **details, "other_files": self._machine.other_files(self._numbered())}

    def checks(self) -> list[Finding]:
        """Findings on the archive, and on contradictions between the archive and the descriptor."""
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
        """The members by number. All disks that the descriptor names are included; chunks are not."""
        return self._machine.members(super()._numbered(), self._open)
