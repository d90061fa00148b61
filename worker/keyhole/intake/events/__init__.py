"""Events: what a storage says has happened to its objects, and what is to be scanned because of it."""
