"""ZIP archives: reads the directory and the members, and decompresses the members."""
