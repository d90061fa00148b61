"""Where verdicts go: records, indexes and a stream in Redis; tags on the object itself."""
