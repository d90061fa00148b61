"""S3 Inventory: a list of a bucket's objects, which S3 writes every day or every week."""
