"""Limits the resources of a scanning process, even if code in it does not check the scan's budgets.

| limit | effect if the process exceeds the limit |
|---|---|
| address space | an allocation fails: Python raises `MemoryError`, or a library aborts the process |
| CPU time | SIGXCPU ends the process |
| open files | `open` and `connect` fail |
| core files | the limit is zero: no core file is written, because it would contain credentials |

The limits on address space and CPU time are soft limits, so a program that this process starts can raise
them. The size of files is not limited, because the log can be a file that grows without limit. The number of
processes is not limited, because the kernel compares this limit with the number of all processes of the user,
including the processes of other programs.

Source: getrlimit(2).
"""

import os
import resource
import threading
from pathlib import Path
from typing import Final

from keyhole.confinement.malloc import ARENAS, give_back

#: A reserve in bytes, which is a part of the limit on address space. The limit is the sum of this reserve,
#: the address space of the process when it is confined, the memory of the scans, the stacks of the threads,
#: and the arenas.
ADDRESS_SPACE: Final = 512 << 20
#: `_STACK` is the size of a thread's stack in bytes, if the system does not limit the size. `_OTHER_THREADS`
#: is the number of threads that do not scan, such as the heartbeat and the threads that send events.
#: `_CORE_STACK` is the size in bytes of the stack of an obstore thread: obstore starts one thread for each
#: core.
_STACK, _OTHER_THREADS, _CORE_STACK = 8 << 20, 20, 2 << 20
#: The most open files for each scanning thread, and for the rest of the process. A scanning thread needs
#: three connections (to S3 by obstore, to S3 by boto3, and to Redis) and one spare file. For each scanning
#: thread there is a thread that fetches a second range of an object and needs one more connection.
_FILES_OF_A_THREAD, _FILES = 5, 256
#: The address space in bytes of one arena of glibc. An arena takes this address space even if it contains
#: little memory.
_ARENA: Final = 64 << 20


def limit_process(threads: int) -> None:
    """Disable core files, and limit the open files of this process, which scans with `threads` threads."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _within(hard, _FILES + _FILES_OF_A_THREAD * threads)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def limit_addresses(threads: int, memory: int) -> None:
    """Limit the address space of this process.

    Args:
        threads: The number of threads that scan.
        memory: The limit in bytes on the memory of all scans together.
    """
    give_back()  # limits the number of arenas; by default, glibc creates up to eight for each core
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = _STACK if stack == resource.RLIM_INFINITY else stack
    # For each thread that scans, there is a second thread that only fetches, and both have a stack.
    stacks = (2 * threads + _OTHER_THREADS) * (threading.stack_size() or stack)
    stacks += (os.cpu_count() or 1) * _CORE_STACK
    _soften(resource.RLIMIT_AS, _addresses() + ADDRESS_SPACE + memory + stacks + ARENAS * _ARENA)


def limit_cpu(seconds: float | None) -> None:
    """End this process when it has used `seconds` more seconds of CPU time; `None` removes the limit."""
    if seconds is None:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _soften(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime + seconds) + 1)


def _addresses() -> int:
    """Return the size of this process's address space in bytes; 0 if it is unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:  # this system has no /proc
        return 0
    return pages * resource.getpagesize()


def _soften(limit: int, value: int) -> None:
    """Set a soft limit to `value`, or to the hard limit if the hard limit is lower."""
    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (_within(hard, value), hard))


def _within(hard: int, value: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
