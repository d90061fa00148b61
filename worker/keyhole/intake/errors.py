"""The error for listings and inventories that Keyhole cannot use."""

from keyhole.errors import KeyholeError


class ListingError(KeyholeError):
    """The listing or the inventory is invalid, so Keyhole cannot list the objects of an audit."""
