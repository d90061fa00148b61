"""The base of all errors that a user may meet."""

from typing import ClassVar

from keyhole.masking import masked


class KeyholeError(Exception):
    """Keyhole cannot do what it was asked to; the message tells a person why, and what to do.

    Args:
        message: A sentence. Secrets in URLs are masked: libraries put endpoints into their messages.
    """

    #: Whether the request itself is wrong: a file, a setting, an argument. Commands exit with another code.
    is_usage: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))
