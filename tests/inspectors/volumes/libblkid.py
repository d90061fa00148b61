"""Runs libblkid on a volume: the command `blkid -p`, and the library, which needs no process.

The library is called in both ways of its own callers. `blkid_do_probe` returns all signatures, one after the
other. `blkid_do_safeprobe`, which the command uses, returns one unambiguous result.
"""

import ctypes
import subprocess
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

from tests.tools import environment

LIBRARY = "libblkid.so.1"
#: The result of `blkid_do_safeprobe` if the signatures contradict each other.
AMBIVALENT = -2


class LibBlkid:
    """The library.

    Raises:
        OSError: The library is not installed.
    """

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL(LIBRARY)
        library.blkid_new_probe.restype = c_void_p
        library.blkid_free_probe.argtypes = [c_void_p]
        library.blkid_probe_set_device.argtypes = [c_void_p, c_int, c_int64, c_int64]
        library.blkid_probe_enable_superblocks.argtypes = [c_void_p, c_int]
        library.blkid_probe_enable_partitions.argtypes = [c_void_p, c_int]
        library.blkid_probe_get_partitions.argtypes = [c_void_p]
        library.blkid_probe_get_partitions.restype = c_void_p
        library.blkid_partlist_numof_partitions.argtypes = [c_void_p]
        library.blkid_partlist_get_partition.argtypes = [c_void_p, c_int]
        library.blkid_partlist_get_partition.restype = c_void_p
        for field in ("start", "size"):
            getter = getattr(library, f"blkid_partition_get_{field}")
            getter.argtypes, getter.restype = [c_void_p], c_int64
        library.blkid_do_probe.argtypes = [c_void_p]
        library.blkid_do_safeprobe.argtypes = [c_void_p]
        library.blkid_probe_lookup_value.argtypes = [c_void_p, c_char_p, POINTER(c_char_p), POINTER(c_size_t)]

    def names(self, descriptor: int) -> tuple[str, ...]:
        """The types of all signatures of an open file."""
        probe = self._probe(descriptor)
        found = []
        while self._library.blkid_do_probe(probe) == 0:
            found.append(self._type(probe))
        self._library.blkid_free_probe(probe)
        return tuple(found)

    def is_ambivalent(self, descriptor: int) -> bool:
        """Whether the library detects contradicting signatures in an open file, and therefore no type."""
        probe = self._probe(descriptor)
        answer = self._library.blkid_do_safeprobe(probe)
        self._library.blkid_free_probe(probe)
        return bool(answer == AMBIVALENT)

    def table(self, descriptor: int) -> str | None:
        """The type of the partition table of an open file, as `blkid -p` prints it."""
        probe = self._probe(descriptor, superblocks=False)
        found = self._library.blkid_do_safeprobe(probe) == 0
        kind = self._value(probe, b"PTTYPE") if found else None
        self._library.blkid_free_probe(probe)
        return kind

    def partitions(self, descriptor: int) -> list[tuple[int, int]]:
        """The partitions of an open file, as first sector and sectors of 512 bytes."""
        library, probe = self._library, self._probe(descriptor, superblocks=False)
        listed = library.blkid_probe_get_partitions(probe)
        found = []
        for number in range(library.blkid_partlist_numof_partitions(listed) if listed else 0):
            one = library.blkid_partlist_get_partition(listed, number)
            found.append((library.blkid_partition_get_start(one), library.blkid_partition_get_size(one)))
        library.blkid_free_probe(probe)
        return found

    def _probe(self, descriptor: int, *, superblocks: bool = True) -> int:
        probe = self._library.blkid_new_probe()
        assert probe
        assert self._library.blkid_probe_set_device(probe, descriptor, 0, 0) == 0
        self._library.blkid_probe_enable_superblocks(probe, int(superblocks))
        self._library.blkid_probe_enable_partitions(probe, int(not superblocks))
        return int(probe)

    def _type(self, probe: int) -> str:
        kind = self._value(probe, b"TYPE")
        assert kind is not None
        return kind

    def _value(self, probe: int, name: bytes) -> str | None:
        value, length = c_char_p(), c_size_t()
        if self._library.blkid_probe_lookup_value(probe, name, byref(value), byref(length)) != 0:
            return None
        assert value.value is not None
        return value.value.decode()


def printed_by_blkid(path: Path) -> str:
    """The type that the command prints, or an empty text if it detects none."""
    done = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "TYPE", path],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode in {0, 2}, done.stderr
    return done.stdout.strip()
