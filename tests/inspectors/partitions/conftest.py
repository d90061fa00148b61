"""libblkid's opinion of a table."""

from tests.inspectors.volumes.conftest import libblkid

__all__ = ["libblkid"]
