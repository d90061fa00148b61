"""The error for listings and inventories that Keyhole cannot use."""

from keyhole.errors import KeyholeError


class ListingError(KeyholeError):
    """The objects of an audit cannot be listed, because the listing or the inventory is invalid."""
