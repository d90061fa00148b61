"""Errors of sources: why Keyhole could not read the bytes, and what the user can do."""

from keyhole.errors import KeyholeError
from keyhole.reasons import Reason


class SourceError(KeyholeError):
    """Keyhole could not read the bytes.

    Args:
        reason: The reason code for the object's report.
        message: The explanation for the user.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnreadableError(SourceError):
    """Keyhole cannot read the object, for example because it is missing, archived or encrypted."""


class ObjectChangedError(SourceError):
    """The object was replaced after the first read. To read the new object, create a new source."""

    def __init__(self, message: str = "the object was replaced while it was read") -> None:
        super().__init__(Reason.OBJECT_CHANGED, message)


class TransientError(SourceError):
    """The network or the server failed. A retry may succeed. A source raises this after the last retry."""


class ConfigurationError(SourceError):
    """No request can succeed for any object: the credentials, the region or the endpoint are wrong."""


class BudgetExhaustedError(SourceError):
    """Continuing would exceed the scan's budget of requests, bytes, seconds or CPU time."""
