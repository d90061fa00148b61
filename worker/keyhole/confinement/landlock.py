"""Landlock: after `restrict`, this process opens no files but those that were allowed, and runs no others.

It takes three system calls and no privileges. Restrictions hold for the thread that asks and for all threads
and processes that it starts later, so ask before there are others. They cannot be lifted.

What it does not restrict: descriptors that are open already, `stat`, `connect` to a Unix socket in the file
system, and, as it is used here, the network.

The libraries for it on PyPI are before their first stable release (`landlock`, `py-landlock`, `landlockpy`,
looked at in November 2026), and each is longer than this.

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

#: System calls, by the numbers that all architectures have in common.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


class Access(IntFlag):
    """What can be done to files, as the kernel numbers it; `REFER` came with ABI 2, and so on."""

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
#: The accesses that a kernel knows from this ABI on.
_SINCE: Final = {2: Access.REFER, 3: Access.TRUNCATE, 5: Access.IOCTL_DEV}
#: From ABI 6 on: no abstract Unix sockets of others, no signals to others.
_SCOPES_SINCE, _SCOPES = 6, 0b11


class Rule(NamedTuple):
    """Allows a kind of access to a file, or to a folder and all that is in it."""

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
    """The version of Landlock's interface that this kernel offers; 0 if it offers none."""
    if sys.platform != "linux":
        return 0
    try:
        return _syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError:  # ENOSYS: not built in; EOPNOTSUPP: switched off; EPERM: a container forbids it
        return 0


def restrict(rules: Iterable[Rule]) -> None:
    """Refuse this thread, and all that it starts from now on, every access to files but these.

    Paths that do not exist are passed over. Without privileges, `give_up_privileges` must have been called.

    Raises:
        OSError: The kernel does not offer it.
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
    """Have no program that this thread starts gain privileges, as `sudo` would.

    Raises:
        OSError: The kernel does not offer it.
    """
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        _raise()


def _add(ruleset: int, rule: Rule, handled: Access) -> None:
    try:
        descriptor = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it does not exist, or this user does not get there anyway
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
