"""The base of all errors that a user may meet."""

from keyhole.masking import masked


class KeyholeError(Exception):
    """Something cannot go on; the message tells a person why, and what to do.

    Args:
        message: A sentence. Secrets in URLs are masked: libraries put endpoints into their messages.
    """

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))
