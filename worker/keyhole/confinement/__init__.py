"""The confinement of a process that reads hostile bytes: what the kernel refuses it."""
