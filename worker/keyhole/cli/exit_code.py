"""Chooses the exit code of a command that shows verdicts."""

from collections.abc import Iterable

from keyhole.cli.errors import ALL_SAFE, SOME_NOT_SAFE, UNDECIDED
from keyhole.reasons import Status

UNDECIDED_STATUSES = {Status.INCONCLUSIVE, Status.UNREADABLE, Status.FAILED}


def exit_code(statuses: Iterable[Status]) -> int:
    """Return the exit code for a set of verdicts.

    The code is 0 if all objects are safe. The code is 3 if all objects that are not safe are `inconclusive`,
    `unreadable` or `failed`, because Keyhole could not decide about them. Otherwise the code is 1.
    """
    not_safe = {status for status in statuses if status is not Status.SAFE}
    if not not_safe:
        return ALL_SAFE
    return UNDECIDED if not_safe <= UNDECIDED_STATUSES else SOME_NOT_SAFE
