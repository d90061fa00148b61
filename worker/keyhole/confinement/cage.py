"""Applies all parts of the confinement that this machine supports: files, privileges and resource limits."""

import sys

from keyhole.confinement import landlock
from keyhole.confinement.limits import limit_addresses, limit_process
from keyhole.confinement.needs import Needs
from keyhole.errors import KeyholeError


class UnconfinedError(KeyholeError):
    """The process's access to files cannot be restricted on this machine. The message states the reason."""


def why_unconfined(needs: Needs) -> str | None:
    """Return why the access to files of a process with these needs cannot be restricted; `None` if it can."""
    if needs.credential_process is not None:
        return "the AWS profile names a credential_process, and Keyhole cannot tell which files it needs"
    if not landlock.abi():
        return "this kernel has no Landlock, which Linux offers since 5.13 unless it is disabled"
    return None


def confine(needs: Needs, *, threads: int, memory: int, required: bool) -> None:
    """Confine this process as far as this machine supports it.

    Args:
        needs: The files that the process needs.
        threads: The number of threads that will scan.
        memory: The limit in bytes on the memory of all scans together.
        required: Whether to fail if the access to files cannot be restricted.

    Raises:
        UnconfinedError: `required` is true, and the access to files cannot be restricted. No part of the
            confinement was applied.
    """
    why = why_unconfined(needs)
    if why is not None and required:
        raise UnconfinedError(why)
    limit_process(threads)
    if needs.credential_process is None:
        # The program that provides credentials would inherit these restrictions, but it can need more address
        # space or more privileges. So apply them only if there is no such program.
        limit_addresses(threads, memory)
        if sys.platform == "linux":
            landlock.give_up_privileges()
    if why is None:
        landlock.restrict(needs.rules)
