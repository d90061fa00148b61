"""kombu's SQS transport, extended: it refuses the pages of other servers, such as a captive portal.

botocore ignores everything in a response that it does not know. So with kombu's own transport, a worker takes
an HTML page with the status 200 for a queue without messages, and waits forever. This transport raises a
connection error. The worker logs it, and connects again after a pause.

kombu sends most requests with boto3, but receives messages with its own client, because a worker's event loop
must not wait for answers.
"""

from typing import Any

from kombu.asynchronous.aws.sqs.connection import AsyncSQSConnection
from kombu.asynchronous.http.curl import CurlClient
from kombu.transport import SQS

from keyhole.sources.foreign_answer import ForeignAnswerError, check_answer, refuse_foreign


class Connection(AsyncSQSConnection):
    """kombu's client that receives messages, extended: it refuses the pages of other servers."""

    def _on_list_ready(self, parent: Any, markers: Any, operation: str, response: Any) -> Any:  # noqa: ANN401 - kombu has no types
        if response.status == self.STATUS_CODE_OK:
            meta = self.sqs_connection.meta
            model = meta.service_model.operation_model(operation)
            check_answer(meta.endpoint_url, response.read(), model)
        return super()._on_list_ready(parent, markers, operation, response)  # type: ignore[no-untyped-call] # as above


class HttpClient(CurlClient):
    """kombu's HTTP client, extended: its timers end with it.

    When a worker connects again, kombu closes the client, but leaves some of its timers in the event loop.
    Each of these timers would then log a traceback, because the client's handles are gone.
    """

    def _timeout_check(self, *args: Any) -> None:  # noqa: ANN401 - as above
        if not self._closed:
            super()._timeout_check(*args)  # type: ignore[no-untyped-call] # as above


class Channel(SQS.Channel):
    """A channel whose clients refuse the pages of other servers."""

    def _new_boto_client(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as above
        client = super()._new_boto_client(*args, **options)
        refuse_foreign(client)
        return client

    def asynsqs(self, queue: str | None = None) -> Any:  # noqa: ANN401 - as above
        """Return the client that receives messages."""
        client = super().asynsqs(queue)  # type: ignore[no-untyped-call] # as above
        # kombu has no settings for the classes of these clients.
        client.__class__ = Connection
        client._httpclient.__class__ = HttpClient  # noqa: SLF001 - as above
        return client


class Transport(SQS.Transport):
    """The transport for the URL scheme `sqs`."""

    Channel = Channel
    connection_errors: Any = (*SQS.Transport.connection_errors, ForeignAnswerError)
