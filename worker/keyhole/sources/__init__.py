"""Sources of bytes: read ranges of objects in S3 and of local files."""
