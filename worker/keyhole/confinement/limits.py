"""Resource limits of a process that scans: a net below the budgets, for what ignores them.

| limit | what happens beyond |
|---|---|
| addresses | an allocation fails: `MemoryError`, or a library aborts the process |
| CPU | SIGXCPU ends the process |
| open files | `open` and `connect` fail |
| core files | none is written: it would hold credentials |

All but those of files and cores are soft, so that a program that this process starts can have its own. Sizes
of files are not limited, for the log may be a file; processes neither, for that limit counts those of a user.

Source: getrlimit(2).
"""

import os
import resource
import threading
from pathlib import Path
from typing import Final

from keyhole.confinement.malloc import ARENAS, give_back

#: Bytes of addresses that a process may have beyond those it has when it is confined, those that scans may
#: hold, and those of threads' stacks and of arenas.
ADDRESS_SPACE: Final = 512 << 20
#: A thread's stack, in bytes, where the system does not limit it; the threads that do not scan, such as the
#: heartbeat; and the stack of a thread of obstore's, which has one for each core.
_STACK, _OTHER_THREADS, _CORE_STACK = 8 << 20, 8, 2 << 20
#: Open files: those of a thread are a connection to S3 by obstore, one by boto3 and one to Redis, and one to
#: spare; the others are those of the process.
_FILES_OF_A_THREAD, _FILES = 4, 256
#: The addresses that an arena of glibc's takes, however little is in it.
_ARENA: Final = 64 << 20


def limit_process(threads: int) -> None:
    """Limit the open files of this process, which scans with so many threads, and have no cores written."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _within(hard, _FILES + _FILES_OF_A_THREAD * threads)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def limit_addresses(threads: int, memory: int) -> None:
    """Limit the memory that this process can address.

    Args:
        threads: How many threads scan.
        memory: The bytes that their scans may hold together.
    """
    give_back()  # or glibc makes eight arenas for each core
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = _STACK if stack == resource.RLIM_INFINITY else stack
    stacks = (threads + _OTHER_THREADS) * (threading.stack_size() or stack)
    stacks += (os.cpu_count() or 1) * _CORE_STACK
    _soften(resource.RLIMIT_AS, _addresses() + ADDRESS_SPACE + memory + stacks + ARENAS * _ARENA)


def limit_cpu(seconds: float) -> None:
    """End this process when it has used so many seconds of CPU more than until now."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _soften(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime + seconds) + 1)


def _addresses() -> int:
    """The bytes of addresses that this process has."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:  # a system without /proc
        return 0
    return pages * resource.getpagesize()


def _soften(limit: int, value: int) -> None:
    """Set a soft limit, at most the hard one."""
    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (_within(hard, value), hard))


def _within(hard: int, value: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
