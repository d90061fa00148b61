"""The demo's local S3, and its sample images, some of which are hostile."""
