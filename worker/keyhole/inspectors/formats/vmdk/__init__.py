"""VMware VMDK: sparse extents, descriptors, and the extents of ESX."""
