"""The confinement as a whole: files, privileges and limits; and what there is of it on this machine."""

import sys

from keyhole.confinement import landlock
from keyhole.confinement.limits import limit_addresses, limit_process
from keyhole.confinement.needs import Needs
from keyhole.errors import KeyholeError


class UnconfinedError(KeyholeError):
    """Files cannot be confined here; the message says why."""


def why_unconfined(needs: Needs) -> str | None:
    """Why the files of a process with these needs cannot be confined here; `None` if they can."""
    if needs.credential_process is not None:
        return "the AWS profile names a credential_process, and nobody knows what that program needs"
    if not landlock.abi():
        return "this kernel offers no Landlock (Linux has it since 5.13, if it is switched on)"
    return None


def confine(needs: Needs, *, threads: int, memory: int, required: bool) -> None:
    """Confine this process as far as that is possible here.

    Args:
        needs: What it needs.
        threads: How many threads it will scan with.
        memory: The bytes that their scans may hold together.
        required: Whether files must be confined.

    Raises:
        UnconfinedError: They must, and cannot. Nothing was done.
    """
    why = why_unconfined(needs)
    if why is not None and required:
        raise UnconfinedError(why)
    limit_process(threads)
    if needs.credential_process is None:
        # A program for credentials may need any amount of addresses, and privileges.
        limit_addresses(threads, memory)
        if sys.platform == "linux":
            landlock.give_up_privileges()
    if why is None:
        landlock.restrict(needs.rules)
