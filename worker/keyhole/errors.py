"""The base class of all errors that Keyhole shows to users."""

from typing import ClassVar

from keyhole.masking import masked


class KeyholeError(Exception):
    """An error whose message tells the user what failed, why, and what to do.

    Args:
        message: A sentence. The message can quote an error of a library, which can contain a URL, so secrets
            in URLs are masked.
    """

    #: Whether the user's input is wrong: a file, a setting or an argument. Commands then exit with code 2.
    is_usage: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))
