"""Errors of reading: why bytes could not be had, and what to do."""

from keyhole.errors import KeyholeError
from keyhole.reasons import Reason


class SourceError(KeyholeError):
    """Bytes could not be had.

    Args:
        reason: What a report on the object says.
        message: A sentence for people.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnreadableError(SourceError):
    """The object cannot be read: it is missing, denied, archived, or encrypted with the customer's key."""


class ObjectChangedError(SourceError):
    """The object was replaced since the first read. Starting over reads the new one."""

    def __init__(self, message: str = "the object was replaced while it was read") -> None:
        super().__init__(Reason.OBJECT_CHANGED, message)


class TransientError(SourceError):
    """The network or the server failed in a way that may pass; raised when all retries have failed."""


class ConfigurationError(SourceError):
    """No request can succeed, for any object: credentials, region or endpoint are wrong."""


class BudgetExhaustedError(SourceError):
    """The next request, byte or second would exceed the scan's budget."""
