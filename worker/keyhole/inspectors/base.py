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
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final, Generic, Protocol, TypeVar

from keyhole.inspectors.effort import spend
from keyhole.inspectors.errors import ImageFormatError
from keyhole.inspectors.facts import FactCache, Member, Wholeness
from keyhole.inspectors.findings import Finding
from keyhole.inspectors.memory import Held
from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion

#: The most regions of one inspector. Most formats need fewer than a dozen regions, so an image that needs
#: more than 64 was made to exhaust memory.
MAX_REGIONS = 64
#: An inspector reserves memory for each region longer than `LONG_REGION` bytes: `MADE_OF_REGION` times the
#: region's length, because the Python objects parsed from a region take more memory than its bytes.
LONG_REGION, MADE_OF_REGION = 512 * 1024, 8
#: The most bytes of maps that a thorough inspector keeps in memory: two million entries of 8 bytes.
THOROUGH_BYTES = 16 * 1024 * 1024

Value = TypeVar("Value")


class TraceDisabled:
    """A logger that drops every message, for inspectors that do not trace."""

    def debug(self, *_args: object, **_kwargs: object) -> None:
        """Drop the message."""

    info = debug
    warning = debug
    error = debug


class Remembers(Protocol):
    """An inspector, or a part of an inspector, that has `Remembered` properties."""

    @property
    def remembered(self) -> FactCache:
        """The cache of `Remembered` properties, which the inspector clears when its data change."""


class Remembered(Generic[Value]):
    """A property whose value is cached until the inspector receives bytes, a region or the object's length.

    Use it for facts that are costly to compute and requested often. The value must depend only on the bytes,
    the regions and the length.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, _owner: object, name: str) -> None:
        self._name = name

    def __get__(self, remembering: "Remembers", _owner: object = None) -> Value:
        # `FactCache.add` stores the value as an attribute of `remembering` with the property's name. Because
        # this class has no `__set__`, later reads find the attribute, and do not call this method again.
        value: Value = self._compute(remembering)
        remembering.remembered.add(remembering, self._name, value)
        return value


#: The attributes of an inspector that `FileInspector` itself sets.
OWN_ATTRIBUTES: Final = frozenset(
    ("_log", "_regions", "remembered", "_asked_for", "_position", "_highest", "_size", "thorough")
)


class Layer(Enum):
    """The kind of a format, which `FileInspector.explains` takes into account."""

    IMAGE = auto()
    DISC = auto()
    DISK = auto()
    COMPRESSED = auto()


class FileInspector:
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
    #: Whether objects of this format contain members, which are inspected separately.
    IS_CONTAINER = False
    #: The memory that is reserved for a long region, as a multiple of the region's length.
    MADE_OF_REGION = MADE_OF_REGION
    #: Whether to read all maps of the image, up to `THOROUGH_BYTES`. Otherwise the inspector reads the maps
    #: near the front and a sample of the others. Set this attribute before the first bytes arrive.
    thorough = False

    def __init__(self, tracing: bool = False) -> None:
        self._log: logging.Logger | TraceDisabled = (
            logging.getLogger(f"{__name__}.{self.NAME}") if tracing else TraceDisabled()
        )
        self._regions: dict[str, CaptureRegion] = {}
        #: The cached values of the `Remembered` properties.
        self.remembered = FactCache()
        # The memory reserved for each long region, by the region's name.
        self._asked_for: dict[str, Held] = {}
        self._position = 0
        self._highest = 0
        self._size: int | None = None

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:  # noqa: ARG003 - subclasses use it
        """Whether an object that begins with `prefix` (at most 512 bytes) has the format's magic number."""
        return False

    def __str__(self) -> str:
        return self.NAME

    # Input

    def eat_chunk(self, chunk: bytes) -> None:
        """Pass the next chunk of a stream to the inspector.

        Raises:
            ImageFormatError: The image violates its format and cannot be inspected further.
        """
        position = self._position
        self._position += len(chunk)
        self.feed(position, chunk)

    def feed(self, offset: int, data: bytes) -> None:
        """Pass bytes from any place in the object: `data` begins at the absolute `offset`.

        The caller can pass ranges in any order, and the ranges can overlap.

        Raises:
            ImageFormatError: The image violates its format and cannot be inspected further.
        """
        if not data:
            # An empty read does not prove that the object is `offset` bytes long, so do not change
            # `_highest`.
            return
        self._highest = max(self._highest, offset + len(data))
        took = True in [region.put(offset, data) for region in self._regions.values()]
        if self._size is None or took:
            self.remembered.clear()
        # If no region captured bytes, `post_process` would find nothing new, so do not call it. In a
        # container, call it nevertheless, because the container passes the bytes to its members, too.
        if not took and not self.IS_CONTAINER:
            return
        while fresh := self._advance():
            for region in fresh:
                region.put(offset, data)
            self.remembered.clear()

    def finish(self, size: int | None = None) -> None:
        """Set the object's length to `size` bytes or, without `size`, to the end of the bytes passed so far.

        Call it without `size` when a stream has ended.

        Raises:
            ImageFormatError: The image violates its format and cannot be inspected further.
        """
        self._size = self._highest if size is None else size
        for region in self._regions.values():
            if isinstance(region, TailRegion):
                region.anchor(self._size)
        self.remembered.clear()
        while self._advance():
            pass

    def post_process(self) -> None:
        """Process the bytes captured so far; a hook for subclasses, called after every piece of data.

        The hook can declare new regions. `feed` then passes the same piece of data to the new regions, too,
        and calls the hook again.
        """

    def close(self) -> None:
        """Release the reserved memory and the regions. The inspector must not be used afterwards."""
        for held in self._asked_for.values():
            held.release()
        self._regions.clear()
        self.remembered.clear()
        # Many parts of an inspector refer to the inspector. Remove all attributes that subclasses have set.
        # Otherwise Python would keep the parts, with up to megabytes, until it searches for such cycles.
        for name in vars(self).keys() - OWN_ATTRIBUTES:
            delattr(self, name)

    # Regions

    def new_region(self, name: str, region: CaptureRegion) -> None:
        """Declare a region by name.

        Raises:
            ImageFormatError: A region with this name is already declared, or there are too many regions.
        """
        if self.has_region(name):
            raise ImageFormatError(f"region {name!r} is declared twice")
        if len(self._regions) >= MAX_REGIONS:
            raise ImageFormatError(f"the image needs more than {MAX_REGIONS} regions")
        if self._size is not None and isinstance(region, TailRegion):
            region.anchor(self._size)
        length = region.length if self._size is None else min(region.length, self._size)
        if length > LONG_REGION and self.MADE_OF_REGION:
            self._asked_for[name] = held = Held()
            held.raise_to(length * self.MADE_OF_REGION)
        self._regions[name] = region
        self.remembered.clear()

    def has_region(self, name: str) -> bool:
        """Whether a region with this name is declared."""
        return name in self._regions

    def region(self, name: str) -> CaptureRegion:
        """Return the region with this name.

        Raises:
            KeyError: No region with this name is declared.
        """
        return self._regions[name]

    def filled(self, name: str) -> bool:
        """Whether a region is declared and has captured all of its bytes that lie inside the object."""
        region = self._regions.get(name)
        return region is not None and region.settled(self._size)

    def captured(self, name: str) -> bytes:
        """Return the bytes of a region, fewer if the object ends within it; `b""` if it is not filled yet."""
        return self._regions[name].data if self.filled(name) else b""

    def missing(self) -> list[ByteRange]:
        """Return the absolute byte ranges that the inspector still needs, in no particular order.

        Ranges at the object's end are included once `finish` has set the object's length.
        """
        return [gap for region in self._regions.values() for gap in region.gaps(self._size)]

    @property
    def complete(self) -> bool:
        """Whether the inspector needs no more bytes."""
        return all(region.settled(self._size) for region in self._regions.values())

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes of each region are in memory, so that the caller can check the memory use."""
        return {name: region.held for name, region in self._regions.items()}

    # Facts

    @property
    def format_match(self) -> bool:
        """Whether the object appears to have this format."""
        return True

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

    # Internals

    def _advance(self) -> list[CaptureRegion]:
        known = dict(self._regions)
        try:
            self.post_process()
        except BaseException:
            self.remembered.clear()
            raise
        # Call `spend` last, because it can raise, and the inspector's state must then be consistent.
        spend()
        if self._regions == known:
            return []
        self.remembered.clear()
        return [region for name, region in self._regions.items() if known.get(name) is not region]
