"""Events: the notifications that a storage sends when an object changes. Most of them lead to a scan."""
