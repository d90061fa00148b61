"""Audits: scans of all objects in a bucket, page by page, with back-pressure."""
