"""libblkid's opinion of a volume: the command `blkid -p`, and the library itself, which takes no process.

The library is asked in two ways, as its own callers are: for all signatures, one after the other
(`blkid_do_probe`), and for the one that it stands for (`blkid_do_safeprobe`), as the command does.
"""

import ctypes
import subprocess
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

from tests.inspectors.content.tools import environment

LIBRARY = "libblkid.so.1"
#: What `blkid_do_safeprobe` returns where signatures contradict each other.
AMBIVALENT = -2


class LibBlkid:
    """The library.

    Raises:
        OSError: it is not installed.
    """

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL(LIBRARY)
        library.blkid_new_probe.restype = c_void_p
        library.blkid_free_probe.argtypes = [c_void_p]
        library.blkid_probe_set_device.argtypes = [c_void_p, c_int, c_int64, c_int64]
        library.blkid_probe_enable_superblocks.argtypes = [c_void_p, c_int]
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
        """Whether the library refuses to name an open file, for it has contradicting signatures."""
        probe = self._probe(descriptor)
        answer = self._library.blkid_do_safeprobe(probe)
        self._library.blkid_free_probe(probe)
        return bool(answer == AMBIVALENT)

    def _probe(self, descriptor: int) -> int:
        probe = self._library.blkid_new_probe()
        assert probe
        assert self._library.blkid_probe_set_device(probe, descriptor, 0, 0) == 0
        self._library.blkid_probe_enable_superblocks(probe, 1)
        return int(probe)

    def _type(self, probe: int) -> str:
        value, length = c_char_p(), c_size_t()
        assert self._library.blkid_probe_lookup_value(probe, b"TYPE", byref(value), byref(length)) == 0
        assert value.value is not None
        return value.value.decode()


def printed_by_blkid(path: Path) -> str:
    """What the command prints as the type; nothing where it knows none."""
    done = subprocess.run(
        ["blkid", "-p", "-o", "value", "-s", "TYPE", path],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode in {0, 2}, done.stderr
    return done.stdout.strip()
