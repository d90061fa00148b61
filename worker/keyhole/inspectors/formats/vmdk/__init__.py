"""Inspects VMware's VMDK: sparse extents, text descriptors, and the extents that ESX writes."""
