"""Confines processes that parse untrusted bytes, with mechanisms of the kernel."""
