"""QEMU's qcow2: its header, tables, entries and refcounts."""
