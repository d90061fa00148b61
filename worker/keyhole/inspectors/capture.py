"""Captures the regions of an image that an inspector needs (see `keyhole.inspectors.base` for the rules)."""

from keyhole.inspectors.effort import spend
from keyhole.inspectors.errors import ImageFormatError
from keyhole.inspectors.memory import Held
from keyhole.inspectors.region import ByteRange, CaptureRegion, TailRegion
from keyhole.inspectors.remembered import FactCache

#: The most regions of one inspector. Most formats need fewer than a dozen regions, so an image that needs
#: more than 64 was made to exhaust memory.
MAX_REGIONS = 64
#: An inspector reserves memory for each region longer than `LONG_REGION` bytes: `MADE_OF_REGION` times the
#: region's length, because the Python objects parsed from a region take more memory than its bytes.
LONG_REGION, MADE_OF_REGION = 512 * 1024, 8


class Capture:
    """The declared regions of an inspector, the bytes that they have captured, and the object's length."""

    #: Whether objects of this format contain members, which are inspected separately.
    IS_CONTAINER = False
    #: The memory that is reserved for a long region, as a multiple of the region's length.
    MADE_OF_REGION = MADE_OF_REGION

    def __init__(self) -> None:
        self._regions: dict[str, CaptureRegion] = {}
        #: The cached values of the `Remembered` properties.
        self.remembered = FactCache()
        # The memory reserved for each long region, by the region's name.
        self._asked_for: dict[str, Held] = {}
        self._position = 0
        self._highest = 0
        self._size: int | None = None

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
        """Release the reserved memory and the regions."""
        for held in self._asked_for.values():
            held.release()
        self._regions.clear()
        self.remembered.clear()

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
