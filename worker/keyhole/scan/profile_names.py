"""The names of the profiles, in a module without other imports, because shells complete these names."""

from typing import Final

#: The profiles, and what each accepts, in one line.
SUMMARIES: Final = {
    "default": "every format except qcow and qed, which are outdated, and vma",
    "openstack": "the formats that glance stores and nova boots",
    "aws-vm-import": "the formats of AWS VM Import; disks below 16 TiB, not encrypted",
    "azure": "fixed VHDs of whole MiB, at most 32,767 GiB, proven whole",
    "gcp": "a gzip-compressed tar with the file disk.raw of whole GiB",
    "kubevirt": "the formats of the Containerized Data Importer, also compressed",
}
PROFILES: Final = tuple(SUMMARIES)
