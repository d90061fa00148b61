"""Audits: each audit scans all objects in a bucket, page by page, and limits the number of queued jobs."""
