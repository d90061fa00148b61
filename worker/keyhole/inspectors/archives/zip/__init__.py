"""ZIP archives: directory, members, compression methods."""
