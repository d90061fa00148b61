"""The cases in which `qemu-img info` and Keyhole differ, and why Keyhole is right."""

#: The name of a case, and the reason for the difference.
ORACLE_EXCEPTIONS = {
    "fixed VHD": "qemu probes the first bytes alone and calls it raw, footer and all",
    "raw sizes": "qemu rounds a raw disk's size up to whole sectors; the object has as many bytes as it has",
    "VHD of Azure": "qemu 7.2 goes by the geometry of creator `wa`; Azure, and later qemu, by the size",
    "no such format": "qemu knows no discs, evidence files, sparse images or ASIF; it calls them raw",
    "DMG": "qemu knows a DMG by its file's name alone",
    "QED with tables of one cluster": "qemu creates it and cannot open it, as it takes it for an overflow",
}
