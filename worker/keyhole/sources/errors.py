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
    """The object is not there for us: missing, denied, archived, encrypted with the customer's key."""


class ObjectChangedError(SourceError):
    """The object is no longer the one that the first read was of. Starting over reads the new one."""

    def __init__(self, message: str = "the object was replaced while it was read") -> None:
        super().__init__(Reason.OBJECT_CHANGED, message)


class TransientError(SourceError):
    """The network or the server failed in a way that may pass; raised when all retries are spent."""


class ConfigurationError(SourceError):
    """The request cannot be made or is refused whatever the object: credentials, region, endpoint."""


class BudgetExhaustedError(SourceError):
    """The next request, byte or second would be over the scan's budget."""
