"""The base of all inspectors: bytes come in, regions fill, facts become known. No I/O, no clock, no settings.

How an inspector works, and the rules it keeps:

- It declares regions (`new_region`). The caller passes bytes: `eat_chunk` in the order of a stream, or `feed`
  from any offset. After each call, the inspector looks at its filled regions (`post_process`) and may declare
  more.
- Its facts depend only on its regions and the object's length, never on how the bytes came. So two runs that
  end with nothing `missing()` have the same facts. To ensure this, `post_process` declares a region only by
  the content of filled regions, and never by whether the length is known *yet*.
- Bytes outside the declared regions are dropped. A stream can therefore pass a region before it is declared;
  the region then stays `missing()`, and facts that need it stay unknown.
- An image can make an inspector raise `ImageFormatError` and nothing else.
"""

import logging
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Generic, Protocol, TypeVar, cast

from keyhole.inspectors.effort import spend
from keyhole.inspectors.errors import ImageFormatError
from keyhole.inspectors.facts import Member, Wholeness
from keyhole.inspectors.findings import Finding
from keyhole.inspectors.memory import Held
from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion

#: Most formats need less than a dozen regions. An image that makes an inspector declare more is an attack.
MAX_REGIONS = 64
#: For a region longer than `LONG_REGION`, the inspector asks for `MADE_OF_REGION` times its length in memory,
#: because maps and texts become numbers and names, each a Python object.
LONG_REGION, MADE_OF_REGION = 512 * 1024, 8
#: The most bytes of maps that are held when all maps are read: two million entries of 8 bytes.
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
    """An inspector, or a part of one."""

    @property
    def remembered(self) -> dict[object, object]:
        """The values of its `Remembered` properties, which the inspector clears."""


class Remembered(Generic[Value]):
    """A property whose value is kept until the inspector receives bytes, a region or the object's length.

    Use it for facts that are costly and asked for often. The value may depend on nothing else.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, remembering: "Remembers", _owner: object = None) -> Value:
        values = remembering.remembered
        if self not in values:
            values[self] = self._compute(remembering)
        return cast("Value", values[self])


class Layer(Enum):
    """The kind of a format, which decides whether it may be part of another."""

    IMAGE = auto()
    DISC = auto()
    DISK = auto()
    COMPRESSED = auto()


class FileInspector:
    """A disk image inspector that is shown the image piece by piece and stores as little of it as it can.

    This base class is the inspector of raw images: it matches everything, and its virtual size is its length.
    Subclasses set `NAME` and override `post_process`, `format_match`, `virtual_size` and other facts.

    Args:
        tracing: Log what is found, at debug level.
    """

    #: The name of the format, as `get_inspector` takes it.
    NAME = "raw"
    #: An image format, or a bare disk, a disc or a compressed stream, with which other formats may begin.
    LAYER = Layer.IMAGE
    #: Whether objects of this format contain members, each with an inspection of its own.
    IS_CONTAINER = False
    #: The memory that a long region takes, as a multiple of its length.
    MADE_OF_REGION = MADE_OF_REGION
    #: Whether to read all maps of the image, up to `THOROUGH_BYTES`, instead of only the near ones and a
    #: sample. Set it before the first bytes arrive.
    thorough = False

    def __init__(self, tracing: bool = False) -> None:
        self._log: logging.Logger | TraceDisabled = (
            logging.getLogger(f"{__name__}.{self.NAME}") if tracing else TraceDisabled()
        )
        self._regions: dict[str, CaptureRegion] = {}
        #: The values of `Remembered` properties.
        self.remembered: dict[object, object] = {}
        # The memory held for long regions, by the regions' names.
        self._asked_for: dict[str, Held] = {}
        self._position = 0
        self._highest = 0
        self._size: int | None = None

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:  # noqa: ARG003 - for formats that have a mark there
        """Whether an object that begins with these bytes, at most 512, has the format's magic number."""
        return False

    def __str__(self) -> str:
        return self.NAME

    # What goes in

    def eat_chunk(self, chunk: bytes) -> None:
        """Present the next chunk of a stream.

        Raises:
            ImageFormatError: The image violates its format and cannot be inspected further.
        """
        position = self._position
        self._position += len(chunk)
        self.feed(position, chunk)

    def feed(self, offset: int, data: bytes) -> None:
        """Present bytes from anywhere: `data` begins at the absolute `offset`.

        Calls may come in any order, and their ranges may overlap.

        Raises:
            ImageFormatError: The image violates its format and cannot be inspected further.
        """
        if not data:
            # Without bytes, it is not even known whether the object reaches this far.
            return
        self._highest = max(self._highest, offset + len(data))
        fresh = list(self._regions.values())
        while True:
            for region in fresh:
                region.put(offset, data)
            self.remembered.clear()
            fresh = self._advance()
            if not fresh:
                return

    def finish(self, size: int | None = None) -> None:
        """Set the object's length: `size` bytes or, for a stream that has ended, as many as were eaten.

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
        """Look at what has been captured so far; a hook for subclasses, called after every piece of data.

        It may declare new regions. They are shown the current piece, too, and then the hook is called again.
        """

    def close(self) -> None:
        """Release the memory that the inspector asked for. The inspector is not used after this."""
        for held in self._asked_for.values():
            held.release()

    # Regions

    def new_region(self, name: str, region: CaptureRegion) -> None:
        """Declare a region by name.

        Raises:
            ImageFormatError: A region of that name is declared already, or there are too many regions.
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
        """Whether a region of that name has been declared."""
        return name in self._regions

    def region(self, name: str) -> CaptureRegion:
        """The region of that name; `KeyError` if there is none."""
        return self._regions[name]

    def filled(self, name: str) -> bool:
        """Whether a region is declared and is full, or holds all bytes up to the object's end."""
        region = self._regions.get(name)
        return region is not None and region.settled(self._size)

    def captured(self, name: str) -> bytes:
        """The bytes of a filled region, fewer if the object ends within it; empty for any other region."""
        return self._regions[name].data if self.filled(name) else b""

    def missing(self) -> list[ByteRange]:
        """The absolute byte ranges that are still wanted, in no particular order.

        Ranges that are counted from the object's end are included once `finish` has set the object's length.
        """
        return [gap for region in self._regions.values() for gap in region.gaps(self._size)]

    @property
    def complete(self) -> bool:
        """Whether everything wanted has arrived, or can no longer matter."""
        return all(region.settled(self._size) for region in self._regions.values())

    @property
    def context_info(self) -> dict[str, int]:
        """How many bytes each region holds in memory, for auditing."""
        return {name: region.held for name, region in self._regions.items()}

    # What comes out

    @property
    def format_match(self) -> bool:
        """Whether the file appears to be of this format."""
        return True

    @property
    def virtual_size(self) -> int:
        """The size in bytes of the disk that the image describes, or zero if unknown."""
        return self.actual_size

    def other_sizes(self) -> Mapping[str, int]:
        """Return the virtual sizes that some readers use instead of `virtual_size`; see `Facts`."""
        return {}

    @property
    def actual_size(self) -> int:
        """The file's size in bytes; until its end is known, the size of the part seen so far."""
        return self._highest if self._size is None else self._size

    @property
    def subformat(self) -> str | None:
        """The variant of the format, in the format's own words."""
        return None

    @property
    def content(self) -> tuple[str, ...]:
        """The partition table and volumes on the disk, by libblkid's names."""
        return ()

    def members(self) -> tuple[Member, ...]:
        """The members of a container, in its order."""
        return ()

    @property
    def holds_much(self) -> bool:
        """Whether something is being decompressed, which takes much memory."""
        return False

    # How it relates to other inspectors that recognise the same object

    @property
    def is_bare(self) -> bool:
        """Whether the object is the disk itself: its bytes are the disk's, from the first one on."""
        return False

    def explains(self, other: "FileInspector") -> bool:  # noqa: ARG002 - for subclasses that do
        """Whether what `other` recognises is a part of this format, and not a second format."""
        return False

    def is_remnant_in(self, other: "FileInspector") -> bool:  # noqa: ARG002 - for subclasses that may be
        """Whether this is only a remnant that a writer of `other` left, and not a second format."""
        return False

    def defers(self, other: "FileInspector") -> bool:  # noqa: ARG002 - for subclasses that do
        """Whether to fetch nothing for `other` yet, because this format may explain what it recognises."""
        return False

    @property
    def wholeness(self) -> Wholeness:
        """How far Keyhole knows that the image is whole."""
        return Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """Further facts of the format, as values that JSON can represent."""
        return {}

    def checks(self) -> list[Finding]:
        """The findings of the format's checks, each once, in a fixed order."""
        return []

    # How it works

    def _advance(self) -> list[CaptureRegion]:
        known = set(self._regions)
        try:
            self.post_process()
        finally:
            self.remembered.clear()
        # Not earlier: `spend` may raise, and by then the inspector must have recorded what it holds.
        spend()
        return [region for name, region in self._regions.items() if name not in known]
