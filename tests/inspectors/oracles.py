"""The cases in which `qemu-img info` and Keyhole differ, and why Keyhole is right."""

#: The name of a case, and the reason for the difference.
ORACLE_EXCEPTIONS = {
    "fixed VHD": "qemu detects formats only by the first bytes, and reports raw, including the footer",
    "raw sizes": "qemu rounds a raw disk's size up to whole sectors, and Keyhole reports the object's size",
    "VHD of Azure": "for creator `wa`, qemu 7.2 uses the geometry; Azure and later qemu the size",
    "no such format": "qemu reports discs, evidence files, sparse images and ASIF as raw",
    "DMG": "qemu recognises a DMG only by its file's name",
    "QED with tables of one cluster": "qemu creates it, but cannot open it: its overflow check is wrong",
}
