"""A LIST request to S3: it is retried after a transient error, and without an attribute that is refused.

The S3 client does not retry (`sources/s3.py`), so that every request is counted here.
"""

from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from keyhole.reasons import Reason
from keyhole.sources.errors import TransientError
from keyhole.sources.retries import retries
from keyhole.sources.s3_metadata import http_status, redirects
from keyhole.sources.s3_refusal import explain

#: The optional attribute of a listing that says whether an archived object has a restored copy.
ATTRIBUTES: Final = {"OptionalObjectAttributes": ["RestoreStatus"]}
#: The answers of servers that do not know the attribute, which is of 2023.
REFUSALS: Final = {400, 501}


class ListRequest:
    """One LIST operation of a client, and how many requests it took.

    Args:
        operation: The client's method.
        attributes: Whether to ask which archived objects are restored. If the server refuses that,
            `attributes` is false afterwards.
    """

    def __init__(self, operation: Callable[..., Any], *, attributes: bool) -> None:
        self._operation = operation
        self.attributes = attributes
        self.requests = 0

    def __call__(self, **request: Any) -> Any:  # noqa: ANN401 - boto3's own mix of types
        """Send a request and return the answer.

        Raises:
            SourceError: The request is refused, or all retries failed.
        """
        for attempt in retries():
            with attempt:
                answer = self._explained(request)
        return answer

    def _explained(self, request: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
        try:
            return self._without_what_is_refused(request)
        except (ClientError, BotoCoreError, HTTPClientError, ResponseParserError, ValueError) as error:
            raise explain(error) from error
        except RuntimeError as error:
            # botocore raises it for a time that no calendar has, Python for a document that is too deep.
            raise TransientError(Reason.SERVER_ERROR, f"the server's answer is malformed: {error}") from error

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
            raise TransientError(Reason.SERVER_ERROR, "the server's answer is not a listing")
        return answer
