"""Botocore's metadata of an answer: its HTTP status, and the number of requests that it took."""

from typing import Any


def http_status(response: Any) -> int:  # noqa: ANN401 - boto3's response is a dict of everything
    """Return the HTTP status of an answer; 0 if there is none."""
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def redirects(response: Any) -> int:  # noqa: ANN401 - as above
    """Return how often botocore repeated a request. Without retries, it only does so to follow a redirect."""
    return int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0))
