"""Bytes by range: from S3 and from local files."""
