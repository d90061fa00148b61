"""Audits: all objects of a bucket, page by page, as fast as verdicts come and no faster."""
