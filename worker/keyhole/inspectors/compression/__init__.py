"""Compressed images: decoders, and limits on how much they decompress."""
