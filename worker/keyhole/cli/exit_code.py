"""Chooses the exit code of a command that shows verdicts."""

from collections.abc import Collection, Mapping

from keyhole.cli.errors import ALL_SAFE, SOME_NOT_SAFE, UNDECIDED
from keyhole.reasons import Status

UNDECIDED_STATUSES = {Status.INCONCLUSIVE, Status.UNREADABLE, Status.FAILED}


def exit_code(
    statuses: Mapping[Status, int], not_images: int = 0, fail_on: Collection[Status] | None = None
) -> int:
    """Return the exit code for a set of verdicts.

    The code is 0 if all objects are safe. The code is 3 if all objects that are not safe are `inconclusive`,
    `unreadable` or `failed`, because Keyhole could not decide about them. Otherwise the code is 1.

    Args:
        statuses: The number of verdicts with each status.
        not_images: The number of objects that are certainly not images, and that do not count. They are
            included in `statuses` as `unrecognized`. If no other object was found, the code is 1, because
            nothing can be imported.
        fail_on: The statuses that make the code 1, if the user chose them. Objects that are not images then
            count as `unrecognized`. The code is 3 if there are none of the chosen statuses, but an object is
            undecided. If the user chose no status, the code is 0.
    """
    found = {status for status, count in statuses.items() if count}
    if fail_on is not None:
        if found & set(fail_on):
            return SOME_NOT_SAFE
        return UNDECIDED if fail_on and found & UNDECIDED_STATUSES else ALL_SAFE
    if found != {Status.UNRECOGNIZED} and statuses.get(Status.UNRECOGNIZED, 0) == not_images:
        found.discard(Status.UNRECOGNIZED)
    found.discard(Status.SAFE)
    if not found:
        return ALL_SAFE
    return UNDECIDED if found <= UNDECIDED_STATUSES else SOME_NOT_SAFE
