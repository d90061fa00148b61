"""Events: the notifications that a storage sends when an object changes, and the scans that follow."""
