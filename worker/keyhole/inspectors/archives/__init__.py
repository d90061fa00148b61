"""Archives: files that contain other files, such as tar, ZIP, OVA and container images."""
