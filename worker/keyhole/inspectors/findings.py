"""Findings: the problems that checks find in an image, each with a code, a severity and a message.

The table `CHECKS` lists all checks by code. The codes must not change, because policies, tags and dashboards
use them. The module `keyhole.scan.policy` decides which status the verdict has after a finding.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

#: At most this many findings with the same check and severity are reported, so that a report stays readable.
MAX_TOLD = 8


class Severity(StrEnum):
    """The severity of a finding. A finding with severity `INFO` never changes the verdict."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table of checks: the usual severity, and one line about the problem."""

    severity: Severity
    looks_for: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem in an image: the code of the check, the severity, and a message for the user.

    `readers` contains the names of the readers that the finding concerns (see the module `readers`). An empty
    tuple means that the finding concerns all readers.
    """

    check: str
    severity: Severity
    message: str
    readers: tuple[str, ...] = ()

    def concerns(self, readers: Collection[str]) -> bool:
        """Return whether the finding concerns one of these readers."""
        return not self.readers or any(reader in self.readers for reader in readers)


CHECKS: dict[str, Check] = {
    # references to data outside the object
    "backing_file": Check(
        Severity.CRITICAL,
        "qcow2, qcow, QED: the image names a backing file, which programs open together with it",
    ),
    "data_file": Check(
        Severity.CRITICAL,
        "some content is in another file: qcow2's data file, a segment of EWF, DMG or tar, a LUKS payload, "
        "or a dictionary of zstd or lz4",
    ),
    "parent_image": Check(
        Severity.CRITICAL,
        "VHD, VHDX, VDI, VMDK, bochs: the image contains only the differences from a parent image",
    ),
    "extent_path": Check(
        Severity.CRITICAL, "VMDK: an extent is another file, which can be a file of the host"
    ),
    "change_track_path": Check(Severity.CRITICAL, "VMDK: the image names a change tracking file"),
    # features and states that a plain image does not have
    "unknown_features": Check(
        Severity.CRITICAL, "feature bits, versions or required items that Keyhole does not know"
    ),
    "log_replay": Check(
        Severity.WARNING, "VHDX, SESparse: a log must be replayed before the content is correct"
    ),
    "saved_state": Check(Severity.WARNING, "VHD: the image belongs to a suspended virtual machine"),
    "dirty": Check(Severity.WARNING, "the image was not closed cleanly"),
    "corrupt_flag": Check(Severity.ERROR, "qcow2: the image is marked corrupt"),
    "encrypted": Check(Severity.WARNING, "the content is encrypted, so it cannot be inspected"),
    "snapshots": Check(Severity.INFO, "qcow2: the image contains internal snapshots"),
    "unsupported_subformat": Check(
        Severity.WARNING, "a variant of the format whose size or wholeness Keyhole cannot determine"
    ),
    "member_path": Check(
        Severity.CRITICAL,
        "tar, ZIP: a path or a link leads outside the archive, a path goes through a link, or a member is a "
        "device",
    ),
    "ovf_reference": Check(
        Severity.ERROR,
        "OVA: the OVF names a file that is not in the archive; critical if the name leads outside it",
    ),
    # contradictory interpretations, and data outside the format's structures
    "ambiguous_format": Check(
        Severity.CRITICAL,
        "valid in two formats, or an archive in which different programs see different members",
    ),
    "metadata_overlap": Check(
        Severity.CRITICAL,
        "a map points twice at the same place, or at headers or tables, which the guest can then overwrite",
    ),
    "trailing_data": Check(
        Severity.WARNING,
        "data after the end or between members; critical if some programs read the data as an archive",
    ),
    "member_limit": Check(
        Severity.WARNING, "an archive has more members or deeper nesting than Keyhole inspects"
    ),
    "decompression_bomb": Check(
        Severity.CRITICAL,
        "members overlap; or the object contains no disk image and expands to far more data than it stores",
    ),
    "nested_compression": Check(Severity.WARNING, "the data are compressed twice"),
    # incomplete or inconsistent images
    "truncated": Check(
        Severity.ERROR, "the object ends before the end of the image or of one of its structures"
    ),
    "checksum_mismatch": Check(Severity.ERROR, "the checksum of a structure is wrong"),
    "structure": Check(Severity.ERROR, "structures contradict each other or exceed the format's limits"),
    "size_mismatch": Check(Severity.ERROR, "two fields of the image state different sizes"),
    # contradictions to the policy or to the object's metadata, which `keyhole.scan.policy` finds
    "banned_format": Check(Severity.WARNING, "the policy does not accept the format"),
    "virtual_size_limit": Check(
        Severity.WARNING,
        "the disk is larger than the policy accepts, or the policy limits its size, which is unknown",
    ),
    "virtual_size_multiple": Check(
        Severity.WARNING, "the disk's size is not a multiple of the size that the policy requires"
    ),
    "format_mismatch": Check(
        Severity.WARNING,
        "metadata, content type or encoding declare another format; critical if the declared format is raw",
    ),
}


def found(
    check: str, message: str, severity: Severity | None = None, readers: tuple[str, ...] = ()
) -> Finding:
    """Return a finding of a check in `CHECKS`, by default with the check's usual severity."""
    return Finding(check, severity or CHECKS[check].severity, message, readers)


class BoundedFindings:
    """Collects findings, but keeps only the first `MAX_TOLD` findings with the same check and severity.

    Without this limit, an image could cause thousands of similar findings.
    """

    def __init__(self) -> None:
        self._told: list[Finding] = []
        self._counts: dict[tuple[str, Severity], int] = {}

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is one of the first `MAX_TOLD` with its check and severity."""
        kind = (finding.check, finding.severity)
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] <= MAX_TOLD:
            self._told.append(finding)

    def all(self) -> list[Finding]:
        """Return the kept findings.

        If findings with the same check and severity were dropped, one more finding states their number.
        """
        more = [
            found(check, f"and {count - MAX_TOLD} more like these", severity)
            for (check, severity), count in self._counts.items()
            if count > MAX_TOLD
        ]
        return [*self._told, *more]
