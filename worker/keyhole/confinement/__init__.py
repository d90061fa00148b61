"""Confines processes that parse untrusted bytes, by means of the kernel."""
