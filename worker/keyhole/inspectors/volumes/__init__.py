"""What a volume holds, told from the few places where that is written: `volumes.names`."""
