"""OVF: parses the descriptor of a virtual machine and compares it with the files of its archive."""
