"""The error of a listing, or of an inventory, that cannot be used."""

from keyhole.errors import KeyholeError


class ListingError(KeyholeError):
    """What an audit is about cannot be listed: the listing or the inventory is not what it should be."""
