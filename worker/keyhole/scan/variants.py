"""The variants of each format that a policy can name after a colon, such as `vhd:fixed`.

A report states the variant as `subformat`. This is a table of its own, because the inspectors of all formats
are not imported to read a policy. A test compares it with the inspectors.
"""

from typing import Final

VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "qcow2": ("v2", "v3"),
    "vhd": ("fixed", "dynamic", "differencing"),
    "vhdx": ("fixed", "dynamic", "differencing"),
    "vmdk": (
        *("monolithicSparse", "streamOptimized", "monolithicFlat"),
        *("twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "2GbMaxExtentSparse", "2GbMaxExtentFlat"),
        *("custom", "fullDevice", "partitionedDevice", "seSparse", "vmfs", "vmfsEagerZeroedThick"),
        *("vmfsPassthroughRawDeviceMap", "vmfsPreallocated", "vmfsRDM", "vmfsRDMP", "vmfsRaw"),
        *("vmfsRawDeviceMap", "vmfsSparse", "vmfsThin"),
    ),
    "vdi": ("dynamic", "static", "undo", "differencing"),
    "parallels": ("WithoutFreeSpace", "WithouFreSpacExt"),
    "luks": ("luks1", "luks2"),
    "bochs": ("growing", "undoable", "volatile"),
    "cloop": ("V2.0",),
    "ewf": ("E01", "S01", "Ex01"),
    "tar": ("xva",),
    "ova": ("xva",),
}
