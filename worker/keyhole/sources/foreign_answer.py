"""Refuses successful responses that do not come from the AWS service, such as the page of a captive portal.

botocore ignores everything in a response that it does not know. So it returns an empty result for an HTML
page with the status 200: no messages, no tags, or a tag that was written. A client of `refuse_foreign` raises
`ForeignAnswerError` for such a response.

A response in JSON is an object. The object is empty, or it has a member that the operation knows. A response
in XML has a root element with the name of a result. S3 also answers some requests with an empty body, so of
most operations of S3, only HTML is refused. If botocore returns the body as a stream, as for GetObject, this
module does not read it.
"""

import json
import re
from typing import Any, Final

from botocore.client import BaseClient
from botocore.model import OperationModel
from botocore.parsers import ResponseParserError

#: The names of the root elements of S3's responses, as patterns, because servers use different names.
_ROOTS: Final = {
    "ListObjectsV2": r"List\w*",
    "ListObjectVersions": r"List\w*",
    "GetObjectTagging": r"\w*Tagging\w*",
}
#: The name of the root element of responses in AWS's query protocol.
_QUERY_ROOT: Final = r"\w+Response"
#: The root element of an error, which S3 can also send with the status 200. botocore handles it.
_ERROR: Final = "Error"
#: The start tag of the root element. A declaration, a document type and comments can precede it.
_ROOT: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|<[?!][^>]*>)*+<(?:[\w.-]+:)?([\w.-]+)")
#: The root element is looked for in this many bytes.
_FRONT_BYTES: Final = 4096


class ForeignAnswerError(ResponseParserError):
    """A response with the status 200 is not a response of the service."""


def refuse_foreign(client: BaseClient) -> None:
    """Make a client raise `ForeignAnswerError` for successful responses of other servers."""
    url = str(client.meta.endpoint_url)

    def refuse(operation_model: OperationModel, response_dict: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - botocore's event has values of all types
        if response_dict["status_code"] != 200 or operation_model.has_streaming_output:
            return
        check_answer(url, bytes(response_dict["body"]), operation_model)

    client.meta.events.register("before-parse.*.*", refuse)


def check_answer(url: str, body: bytes, model: OperationModel) -> None:
    """Check the body of a response with the status 200.

    Raises:
        ForeignAnswerError: The body cannot be the result of the operation.
    """
    if not _is_result(body, model):
        kind = "an HTML page" if _root(body).lower() == "html" else "other content"
        raise ForeignAnswerError(
            f"{url} answers {model.name} with {kind}, not like {model.service_model.service_id}; check this "
            "URL, and whether a proxy or a login page answers instead of the server"
        )


def _is_result(body: bytes, model: OperationModel) -> bool:
    """Return whether a body can be the result of an operation."""
    root = _root(body)
    if root == _ERROR:
        return True
    protocol = str(model.service_model.protocol)
    if protocol == "json" and model.output_shape is not None:
        return _is_object(body, model.output_shape.members.keys())
    pattern = _QUERY_ROOT if protocol == "query" else _ROOTS.get(model.name)
    return root.lower() != "html" if pattern is None else re.fullmatch(pattern, root) is not None


def _is_object(body: bytes, members: Any) -> bool:  # noqa: ANN401 - botocore has no types
    """Return whether a body is a JSON object that is empty or has one of the members."""
    try:
        result = json.loads(body)
    except ValueError:
        return False
    return isinstance(result, dict) and (not result or not result.keys().isdisjoint(members))


def _root(body: bytes) -> str:
    """Return the name of the root element, without its namespace; empty if the body is not XML or HTML."""
    found = _ROOT.match(body[:_FRONT_BYTES])
    return found[1].decode() if found else ""
