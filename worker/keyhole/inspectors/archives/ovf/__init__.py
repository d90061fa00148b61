"""OVF: the descriptor of a virtual machine, and how it fits the files beside it."""
