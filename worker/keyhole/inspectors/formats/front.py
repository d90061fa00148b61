"""What the inspectors of formats that are known by the object's first bytes have in common."""

from collections.abc import Iterator

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.findings import Finding, found


class FrontInspector(FileInspector):
    """A format that the object's first bytes tell, which a subclass declares as the region `header`."""

    @property
    def format_match(self) -> bool:
        """Whether the object begins as the format does."""
        return self.matches_front(self.region("header").data)

    def _needs(self, end: int) -> Iterator[Finding]:
        """A finding if the object, once its length is known, ends before `end`."""
        if self._size is not None and end > self._size:
            yield found("truncated", f"the image needs {end} bytes, the object has {self._size}")
