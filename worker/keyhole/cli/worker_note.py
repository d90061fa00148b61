"""Says at once that no worker takes work, so that nobody waits in vain."""

from collections.abc import Callable

from keyhole.fleet.services import services
from keyhole.jobs.presence import Presence


def tell_if_no_worker(tell: Callable[[str], object], *, waits: bool) -> bool:
    """If no worker takes work, tell so in one line that says what to do, and return true.

    A worker that was killed counts as present for up to half a minute (`keyhole.jobs.presence`).

    Args:
        tell: Prints a line.
        waits: Whether the command waits for the results.
    """
    if Presence(services().redis).names():
        return False
    end = "Still waiting." if waits else "The work stays in the queue until then."
    tell(f"No worker takes work at the moment. Start one with the same settings: keyhole worker. {end}")
    return True
