"""Sends LIST requests to S3, and repeats them after a transient error.

If the server refuses the optional attribute `RestoreStatus`, the request is sent again without it. The S3
client does not repeat requests (`sources/s3_client.py`). So this module can count every request.
"""

from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from keyhole.reasons import Reason
from keyhole.sources.errors import TransientError
from keyhole.sources.retries import retried
from keyhole.sources.s3_metadata import http_status, redirects
from keyhole.sources.s3_refusal import explain

#: The parameter that requests `RestoreStatus`, which states whether an archived object has a restored copy.
ATTRIBUTES: Final = {"OptionalObjectAttributes": ["RestoreStatus"]}
#: The HTTP status codes of servers that refuse the attribute. S3 introduced the attribute in 2023, and some
#: other servers do not support it.
REFUSALS: Final = {400, 501}


class ListRequest:
    """One LIST operation of a client, with a count of its requests.

    Args:
        operation: The client's method.
        attributes: Whether to request the restore status of archived objects. If the server refuses the
            attribute, later requests do not contain it.
    """

    def __init__(self, operation: Callable[..., Any], *, attributes: bool) -> None:
        self._operation = operation
        self.attributes = attributes
        self.requests = 0

    def __call__(self, **request: Any) -> Any:  # noqa: ANN401 - boto3's own mix of types
        """Send a request and return the response.

        Raises:
            SourceError: S3 refused the request, or all retries failed.
        """
        return retried(lambda: self._explained(request))

    def _explained(self, request: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
        try:
            return self._without_what_is_refused(request)
        except (ClientError, BotoCoreError, HTTPClientError, ResponseParserError, ValueError) as error:
            raise explain(error) from error
        except RuntimeError as error:
            # botocore raises a RuntimeError if a date is impossible. Python raises a RuntimeError if the XML
            # has too many levels.
            raise TransientError(Reason.SERVER_ERROR, f"the server's response is invalid: {error}") from error

    def _without_what_is_refused(self, request: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
        if self.attributes:
            try:
                return self._send(request | ATTRIBUTES)
            except ClientError as error:
                if http_status(error.response) not in REFUSALS:
                    raise
        answer = self._send(request)
        self.attributes = False
        return answer

    def _send(self, request: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
        self.requests += 1
        try:
            answer = self._operation(**request)
        except ClientError as error:
            self.requests += redirects(error.response)
            raise
        self.requests += redirects(answer)
        if "IsTruncated" not in answer:
            raise TransientError(Reason.SERVER_ERROR, "the server's response is not a listing")
        return answer
