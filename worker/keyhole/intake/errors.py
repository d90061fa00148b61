"""The error of a listing, or of an inventory, that cannot be used."""

from keyhole.errors import KeyholeError


class ListingError(KeyholeError):
    """The objects of an audit cannot be listed: the listing or the inventory is invalid."""
