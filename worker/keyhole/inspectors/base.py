"""The base class of all inspectors, which capture regions of an image and derive facts from them.

An inspector does no I/O and uses neither a clock nor settings. It works according to these rules:

- The inspector declares the regions that it needs (`new_region`). The caller passes bytes, either in the
  order of a stream (`eat_chunk`) or from any offset (`feed`). After each call, the inspector reads its filled
  regions (`post_process`) and can declare more regions.
- The facts depend only on the regions and on the object's length, never on the order or size of the pieces
  that the caller passed. So if two runs both end when `missing()` is empty, they report the same facts. To
  ensure this, `post_process` uses only the content of filled regions and the length to decide whether it
  declares a region. If a decision needs the length, the decision waits until the length is known.
- The inspector drops bytes outside the declared regions. A stream can therefore pass a region before the
  inspector declares the region. The region then stays `missing()`, and the facts that need it stay unknown.
- The only exception that an image can make an inspector raise is `ImageFormatError`.
"""

import logging
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from keyhole.inspectors.capture import Capture
from keyhole.inspectors.facts import Member, Wholeness
from keyhole.inspectors.findings import Finding

#: The most bytes of maps that a thorough inspector keeps in memory: two million entries of 8 bytes.
THOROUGH_BYTES = 16 * 1024 * 1024


class TraceDisabled:
    """A logger that drops every message, for inspectors that do not trace."""

    def debug(self, *_args: object, **_kwargs: object) -> None:
        """Drop the message."""

    info = debug
    warning = debug
    error = debug


#: The attributes of an inspector that `FileInspector` and `Capture` set.
OWN_ATTRIBUTES: Final = frozenset(
    ("_log", "_regions", "remembered", "_asked_for", "_position", "_highest", "_size", "thorough")
)


class Layer(Enum):
    """The kind of a format, which `FileInspector.explains` takes into account."""

    IMAGE = auto()
    DISC = auto()
    DISK = auto()
    COMPRESSED = auto()


class FileInspector(Capture):
    """A disk image inspector, which receives the image piece by piece and keeps only the regions it needs.

    This base class is the inspector of raw images: it matches every object, and the virtual size is the
    object's length. Subclasses set `NAME` and override `post_process`, `format_match`, `virtual_size` and
    other facts.

    Args:
        tracing: Log at debug level what the inspector finds.
    """

    #: The name of the format, which `get_inspector` accepts.
    NAME = "raw"
    #: The kind of the format. An image can also match a second format, for example because it begins with the
    #: bytes of a disk. `explains` of the image's inspector then checks the kind of the second format.
    LAYER = Layer.IMAGE
    #: Whether to read all maps of the image, up to `THOROUGH_BYTES`. Otherwise the inspector reads the maps
    #: near the front and a sample of the others. Set this attribute before the first bytes arrive.
    thorough = False

    def __init__(self, tracing: bool = False) -> None:
        super().__init__()
        self._log: logging.Logger | TraceDisabled = (
            logging.getLogger(f"{__name__}.{self.NAME}") if tracing else TraceDisabled()
        )

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:  # noqa: ARG003 - subclasses use it
        """Whether an object that begins with `prefix` (at most 512 bytes) has the format's magic number."""
        return False

    def __str__(self) -> str:
        return self.NAME

    def close(self) -> None:
        """Release the reserved memory and the regions. The inspector must not be used afterwards."""
        super().close()
        # Many parts of an inspector refer to the inspector. Remove all attributes that subclasses have set.
        # Otherwise Python would keep the parts, with up to megabytes, until it searches for such cycles.
        for name in vars(self).keys() - OWN_ATTRIBUTES:
            delattr(self, name)

    # Facts

    @property
    def format_match(self) -> bool:
        """Whether the object appears to have this format."""
        return True

    @property
    def mark(self) -> str:
        """The structure by which the format was recognised, and its offset in the object."""
        return "header at byte 0"

    @property
    def virtual_size(self) -> int:
        """The size in bytes of the disk that the image contains, or zero if unknown."""
        return self.actual_size

    def other_sizes(self) -> Mapping[str, int]:
        """Return the virtual sizes in bytes that some readers use instead of `virtual_size`; see `Facts`."""
        return {}

    @property
    def actual_size(self) -> int:
        """The object's length in bytes. Until it is known, the end of the bytes passed so far."""
        return self._highest if self._size is None else self._size

    @property
    def subformat(self) -> str | None:
        """The variant of the format, by the name that the format's specification uses."""
        return None

    @property
    def content(self) -> tuple[str, ...]:
        """The names of the partition table and the volumes on the disk, as libblkid writes these names."""
        return ()

    def members(self) -> tuple[Member, ...]:
        """Return the members of a container, in their order in the container."""
        return ()

    @property
    def holds_much(self) -> bool:
        """Whether the inspector is decompressing data, which takes much memory."""
        return False

    @property
    def wholeness(self) -> Wholeness:
        """Whether Keyhole has proven that the image is whole, has sampled it, or has not checked it."""
        return Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """Return more facts that are specific to the format. JSON can represent the values."""
        return {}

    def checks(self) -> list[Finding]:
        """Return the findings of the format's checks in a fixed order, without duplicates."""
        return []

    # Relations to other inspectors that recognise the same object

    @property
    def is_bare(self) -> bool:
        """Whether the object's bytes are the disk's bytes, from the first byte on."""
        return False

    def explains(self, other: "FileInspector") -> bool:  # noqa: ARG002 - subclasses use it
        """Whether the data that `other` recognises are a part of this image, and not a second image."""
        return False

    def is_remnant_in(self, other: "FileInspector") -> bool:  # noqa: ARG002 - subclasses use it
        """Whether the object has `other`'s format, and contains this format's mark only as a remnant."""
        return False

    def defers(self, other: "FileInspector") -> bool:  # noqa: ARG002 - subclasses use it
        """Whether to postpone all reads for `other`. True if `explains(other)` is true or can become true."""
        return False
