"""Reads botocore's metadata of a response: the HTTP status, and the number of repeated requests."""

from typing import Any


def http_status(response: Any) -> int:  # noqa: ANN401 - boto3's response is a dict of everything
    """Return the HTTP status of a response; 0 if there is none."""
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def redirects(response: Any) -> int:  # noqa: ANN401 - as above
    """Return how often botocore repeated a request.

    Keyhole's clients do not retry, so botocore repeats requests only to follow redirects.
    """
    return int(response.get("ResponseMetadata", {}).get("RetryAttempts", 0))
