"""Audits: scan all objects of a bucket, page by page, with back-pressure."""
