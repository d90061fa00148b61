"""Compressed images: decoders, and limits on what they may expand."""
