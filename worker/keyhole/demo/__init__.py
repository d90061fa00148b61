"""The demo: a local S3 with sample images, some of them hostile, and everything that scans them."""
