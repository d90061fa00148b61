"""Findings: a check's result on an image, as a code, a severity and a sentence.

The table `CHECKS` is the closed list of checks. A check's code is stable: policies, tags and dashboards name
it. The module `keyhole.scan.policy` decides what a check means for the verdict.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

#: The most findings of one kind that are reported. A thousand similar sentences would not help.
MAX_TOLD = 8


class Severity(StrEnum):
    """How much a finding weighs. `INFO` never changes a verdict."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table of checks: its usual severity and, in one line, what it looks for."""

    severity: Severity
    looks_for: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: its code, its severity for this image, and a sentence for a person.

    `readers` names the readers that the finding concerns, as the module `readers` does; empty means all.
    """

    check: str
    severity: Severity
    message: str
    readers: tuple[str, ...] = ()

    def concerns(self, readers: Collection[str]) -> bool:
        """Return whether the finding concerns one of these readers."""
        return not self.readers or any(reader in self.readers for reader in readers)


CHECKS: dict[str, Check] = {
    # references that lead outside the object
    "backing_file": Check(
        Severity.CRITICAL, "qcow2, qcow, QED: a backing file, which programs open together with the image"
    ),
    "data_file": Check(
        Severity.CRITICAL,
        "content in another file: qcow2's data file, a segment of EWF or DMG, a LUKS payload",
    ),
    "parent_image": Check(
        Severity.CRITICAL, "VHD, VHDX, VDI, VMDK, bochs: the image only has the differences to a parent image"
    ),
    "extent_path": Check(
        Severity.CRITICAL, "VMDK: an extent that is another file, which may be one of the host"
    ),
    "change_track_path": Check(Severity.CRITICAL, "VMDK: a change tracking file next to the image"),
    # features and states that a plain image does not have
    "unknown_features": Check(
        Severity.CRITICAL, "feature bits, versions or required items unknown to Keyhole"
    ),
    "log_replay": Check(
        Severity.WARNING, "VHDX, SESparse: a log that must be replayed before the content is correct"
    ),
    "saved_state": Check(Severity.WARNING, "VHD: the image belongs to a suspended machine"),
    "dirty": Check(Severity.WARNING, "the image was not closed cleanly"),
    "corrupt_flag": Check(Severity.ERROR, "qcow2: the image is marked corrupt"),
    "encrypted": Check(Severity.WARNING, "the content is encrypted, so it cannot be inspected"),
    "snapshots": Check(Severity.INFO, "qcow2: the image contains internal snapshots"),
    "unsupported_subformat": Check(Severity.WARNING, "a variant whose size and wholeness cannot be decided"),
    "member_path": Check(
        Severity.CRITICAL,
        "tar, ZIP: a name or a link that leads outside the archive, through a link, or to a device",
    ),
    "ovf_reference": Check(
        Severity.ERROR,
        "OVA: the OVF names a file that the archive lacks; critical if it is outside or belongs to the host",
    ),
    # two things at once
    "ambiguous_format": Check(
        Severity.CRITICAL,
        "two formats at once, or an archive in which different programs see different members",
    ),
    "metadata_overlap": Check(
        Severity.CRITICAL,
        "a map points at headers or tables, or twice at one place, so that the guest can overwrite them",
    ),
    "trailing_data": Check(
        Severity.WARNING,
        "data after the end or between members; critical if it is an archive that some programs read",
    ),
    "member_limit": Check(
        Severity.WARNING, "an archive with more members or deeper nesting than Keyhole looks at"
    ),
    "decompression_bomb": Check(
        Severity.CRITICAL,
        "expands to far more data than it stores and holds no disk image, or has members that overlap",
    ),
    "nested_compression": Check(Severity.WARNING, "data that are compressed twice"),
    # not whole
    "truncated": Check(Severity.ERROR, "a structure lies beyond the end of the object"),
    "checksum_mismatch": Check(Severity.ERROR, "the checksum of a structure is wrong"),
    "structure": Check(Severity.ERROR, "structures contradict each other or exceed the format's limits"),
    "size_mismatch": Check(Severity.ERROR, "two places state different sizes"),
    # not what the policy accepts, or not what the metadata declare; found by the policy
    "banned_format": Check(Severity.WARNING, "a format that the policy does not accept"),
    "virtual_size_limit": Check(Severity.WARNING, "a disk larger than the policy accepts"),
    "virtual_size_multiple": Check(
        Severity.WARNING, "a disk whose size is not a multiple of what the policy says"
    ),
    "format_mismatch": Check(
        Severity.WARNING,
        "metadata, content type or encoding declare another format; critical if they declare raw",
    ),
}


def found(
    check: str, message: str, severity: Severity | None = None, readers: tuple[str, ...] = ()
) -> Finding:
    """A finding of a check in `CHECKS`, with the check's usual severity unless another is given."""
    return Finding(check, severity or CHECKS[check].severity, message, readers)


class BoundedFindings:
    """Collects findings where there may be thousands: keeps only the first few of each check and severity."""

    def __init__(self) -> None:
        self._told: list[Finding] = []
        self._counts: dict[tuple[str, Severity], int] = {}

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is one of the first `MAX_TOLD` of its kind."""
        kind = (finding.check, finding.severity)
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] <= MAX_TOLD:
            self._told.append(finding)

    def all(self) -> list[Finding]:
        """The kept findings and, for each kind, one that says how many more there are."""
        more = [
            found(check, f"and {count - MAX_TOLD} more like these", severity)
            for (check, severity), count in self._counts.items()
            if count > MAX_TOLD
        ]
        return [*self._told, *more]
