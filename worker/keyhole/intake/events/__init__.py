"""Events: the notifications that a storage sends when its objects change, and the scans that they start."""
