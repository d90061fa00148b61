"""libblkid's opinion of a table."""

from tests.inspectors.content.conftest import libblkid

__all__ = ["libblkid"]
