"""The base class of all errors that Keyhole shows to users."""

from typing import ClassVar

from keyhole.masking import masked


class KeyholeError(Exception):
    """An error whose message tells the user what failed, why, and what to do.

    Args:
        message: A sentence. The message can quote the error of a library, and this error can contain a URL.
            So secrets in URLs are masked.
    """

    #: Whether the user's input is the cause: a wrong file, setting or argument. Commands then exit with code
    #: 2.
    is_usage: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))
