"""The classes of the table of remedies."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repair:
    """Commands that repair an image, one line each, for a shell.

    `aim` states in the imperative what the commands do. The commands read an image from a file such as
    `image.qcow2`; the user replaces the names of the files.
    """

    aim: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about a reason of a verdict.

    Each text is one or more sentences for users. `what_to_do` is one line, in the imperative, without a full
    stop at its end, so that it can follow a colon.
    """

    what_to_do: str
    #: Why it matters.
    why: str
    #: How it arises.
    cause: str
    #: How to find out whether it is so.
    check: str
    #: How to get an object that is safe.
    repair: str
    repairs: tuple[Repair, ...] = ()
