"""Uses Landlock of the Linux kernel to restrict which files this process can open and execute.

`restrict` makes three system calls and needs no privileges. The restrictions apply to the calling thread, and
to all threads and processes that this thread starts later. So call `restrict` before the process has other
threads. The restrictions cannot be removed.

Landlock does not restrict file descriptors that are already open, `stat`, or `connect` to a Unix socket in
the file system. Keyhole does not use Landlock's rules for the network, so TCP connections are not restricted.

Keyhole does not use a library for Landlock: the libraries on PyPI have no stable release, and they have more
code than this module (`landlock`, `py-landlock` and `landlockpy` in November 2026).

Source: linux/Documentation/userspace-api/landlock.rst, linux/include/uapi/linux/landlock.h.
"""

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from enum import IntFlag
from pathlib import Path
from typing import Final, NamedTuple

#: The numbers of the system calls, which are the same on all architectures.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


class Access(IntFlag):
    """The kinds of access to files, with the kernel's bits (`LANDLOCK_ACCESS_FS_*`).

    Bits up to `MAKE_SYM` exist since ABI 1. `_SINCE` lists the later bits.
    """

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ: Final = Access.READ_FILE | Access.READ_DIR
WRITE: Final = (
    READ
    | Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.MAKE_REG
    | Access.MAKE_DIR
    | Access.REMOVE_FILE
    | Access.REMOVE_DIR
)
RUN: Final = Access.READ_FILE | Access.EXECUTE

_FILE_ACCESS: Final = (
    Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
)
#: The kinds of access that were added after ABI 1. The keys are the versions of the ABI that added them.
_SINCE: Final = {2: Access.REFER, 3: Access.TRUNCATE, 5: Access.IOCTL_DEV}
#: Since ABI 6, these bits forbid the process to connect to abstract Unix sockets of unrestricted processes,
#: and to send signals to such processes.
_SCOPES_SINCE, _SCOPES = 6, 0b11


class Rule(NamedTuple):
    """Allows some kinds of access to a file, or to a folder and everything in it."""

    path: Path
    access: Access


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Return the version of Landlock's interface (ABI) in this kernel; 0 if Landlock is not available."""
    if sys.platform != "linux":
        return 0
    try:
        return _syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:  # ENOSYS: not built in; EOPNOTSUPP: disabled; EPERM: forbidden by the container
        return 0


def restrict(rules: Iterable[Rule]) -> None:
    """Deny this thread every access to files that `rules` do not allow.

    Threads and processes that this thread starts later inherit the restriction. Rules for paths that do not
    exist are ignored. A process without the capability `CAP_SYS_ADMIN` must call `give_up_privileges` first.

    Raises:
        OSError: Landlock is not available.
    """
    version = abi()
    handled = Access(0)
    for access in Access:
        if version >= next((since for since, new in _SINCE.items() if access in new), 1):
            handled |= access
    scopes = _SCOPES if version >= _SCOPES_SINCE else 0
    attr = _RulesetAttr(handled, 0, scopes)
    ruleset = _syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.sizeof(attr), 0)
    try:
        for rule in rules:
            _add(ruleset, rule, handled)
        _syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def give_up_privileges() -> None:
    """Prevent programs that this thread starts from gaining privileges, for example through `sudo`.

    Raises:
        OSError: The kernel does not support this.
    """
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        _raise()


def _add(ruleset: int, rule: Rule, handled: Access) -> None:
    try:
        descriptor = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # the path does not exist, or this user has no access to it
        return
    try:
        access = rule.access & handled
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _FILE_ACCESS
        attr = _PathBeneathAttr(access, descriptor)
        _syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(attr), 0)
    finally:
        os.close(descriptor)


_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def _syscall(number: int, *arguments: object) -> int:
    typed = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    answer = int(_LIBC.syscall(ctypes.c_long(number), *typed))
    if answer < 0:
        _raise()
    return answer


def _raise() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
