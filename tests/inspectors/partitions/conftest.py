"""The partition tables that libblkid finds."""

from tests.inspectors.volumes.conftest import libblkid

__all__ = ["libblkid"]
