"""S3 Inventory: the list of a bucket's objects that S3 itself writes, every day or week."""
