"""Why bytes could not be had, as a stable reason and a sentence that says what to do."""

from keyhole.sources.masking import masked


class SourceError(Exception):
    """Bytes could not be had.

    Args:
        reason: A stable code in snake_case, as reports carry it.
        message: A sentence for people. Secrets in URLs are masked: what boto3 and obstore say has endpoints.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(masked(message))
        self.reason = reason


class UnreadableError(SourceError):
    """The object is not there for us: missing, denied, archived, encrypted with the customer's key."""


class ObjectChangedError(SourceError):
    """The object is no longer the one that the first read was of. Starting over reads the new one."""

    def __init__(self, message: str = "the object was replaced while it was read") -> None:
        super().__init__("object_changed", message)


class TransientError(SourceError):
    """The network or the server failed in a way that may pass; raised when all retries are spent."""


class ConfigurationError(SourceError):
    """The request cannot be made or is refused whatever the object: credentials, region, endpoint."""


class BudgetExhaustedError(SourceError):
    """The next request, byte or second would be over the scan's budget."""
