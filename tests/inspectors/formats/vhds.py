"""VHDs with changed footers."""

from keyhole.builders import Image
from keyhole.inspectors.formats.vhd_footer import footer_checksum


def with_footer(image: Image, at: int, value: bytes, *, only: int | None = None) -> Image:
    """Change one or both footers of a dynamic image, and correct the checksums."""
    for base in (0, image.size - 512) if only is None else (only,):
        footer = bytearray(image.read(base, 512))
        footer[at : at + len(value)] = value
        footer[64:68] = footer_checksum(bytes(footer)).to_bytes(4, "big")
        image = image.patched(base, bytes(footer))
    return image
