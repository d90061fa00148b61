"""Archives: files that hold other files, such as tar, ZIP, OVA and container images."""
