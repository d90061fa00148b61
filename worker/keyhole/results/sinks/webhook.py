"""Sends events to a webhook: one HTTPS request per event, with a signature.

- The webhook must answer with a status of 200 to 299 within `SECONDS`. The limit applies to the whole
  request, so a webhook that answers slowly cannot occupy a thread for longer.
- If the status is 408, 429 or 500 to 599, or if the connection fails, Keyhole sends the event again later. If
  the answer has the header `Retry-After`, Keyhole waits at least that long, but not longer than
  `LONGEST_RETRY_AFTER`. After every other status, Keyhole does not send the event again.
- Keyhole follows no redirects, and reads at most `MOST_OF_ANSWER` bytes of an answer's body.
- Keyhole checks the host's address (`sources.addresses`) and connects to exactly this address. So
  Keyhole cannot send webhooks through a proxy, because a proxy resolves the host's name itself.
- The server's certificate must be valid for the host name in the URL.
"""

import ssl
import time
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from types import SimpleNamespace
from typing import Final
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse
from urllib3.util.ssl_ import create_urllib3_context

from keyhole.inspectors.text import shown
from keyhole.results.sinks.delivery import DeliveryError
from keyhole.results.sinks.event import MEDIA_TYPE, Event
from keyhole.results.sinks.signature import parse_secrets, signature_headers
from keyhole.sources.addresses import NoAddressError, PrivateAddressError, resolve
from keyhole.sources.deadline import HeedsDeadlines, deadline

#: Seconds for a whole request, and for each wait for a connection or for bytes.
SECONDS, WAIT_SECONDS = 15.0, 5.0
#: The maximum number of addresses of the host that Keyhole tries.
MOST_ADDRESSES: Final = 3
#: The maximum number of bytes of an answer's body that Keyhole reads. Error messages show the beginning of
#: the body.
MOST_OF_ANSWER: Final = 2048
_SHOWN_OF_ANSWER: Final = 200
#: The longest accepted `Retry-After`, in seconds. If an answer requests a longer time, this time is used
#: instead.
LONGEST_RETRY_AFTER: Final = 3600.0
#: Among the statuses from 400 to 499, those after which Keyhole sends an event again.
_TEMPORARY: Final = {408, 429}
#: The errors that urllib3, Python's HTTP client and sockets raise. A malformed answer can also cause a
#: `ValueError`.
_FAILURES: Final = (HTTPError, HTTPException, OSError, ValueError)


class _Connection(HeedsDeadlines, HTTPConnection):
    """A connection without TLS that obeys deadlines."""


class _SecureConnection(HeedsDeadlines, HTTPSConnection):
    """A connection with TLS that obeys deadlines."""


class Webhook:
    """A webhook. Threads can share this object.

    Args:
        url: The URL to which events are sent.
        secrets: The one or two secrets that sign the requests (`results.sinks.signature`).
        private: Whether the host may have an address that is not public.
        certificates: The file of trusted CA certificates.
        seconds: The maximum number of seconds for a request.
    """

    def __init__(
        self, url: str, secrets: str, *, private: bool, certificates: str, seconds: float = SECONDS
    ) -> None:
        parts = urlsplit(url)
        self._host = str(parts.hostname)
        self._secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._secure else 80)
        self._netloc = parts.netloc
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._keys = parse_secrets(secrets)
        self._private = private
        self._seconds = seconds
        self._context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
        self._context.check_hostname = True
        self._context.load_verify_locations(cafile=certificates)

    @property
    def name(self) -> str:
        """The webhook's scheme, host and port. The path is left out, because it can contain a secret."""
        return f"{'https' if self._secure else 'http'}://{self._netloc}"

    def send(self, event: Event) -> None:
        """Send an event.

        Raises:
            DeliveryError: The webhook did not confirm the event.
        """
        headers = {
            "host": self._netloc,
            "content-type": MEDIA_TYPE,
            "user-agent": "keyhole",
            **signature_headers(self._keys, event.id, int(time.time()), event.body),
        }
        with deadline(self._seconds) as timer:
            connection = self._connect()
            # If the answer has no length, the connection object forgets its socket before the body has been
            # read. So give the socket itself to the timer, which can then still stop the reading of the body.
            timer.note(SimpleNamespace(sock=connection.sock))
            try:
                connection.request("POST", self._path, event.body, headers, preload_content=False)
                with closing(connection.getresponse()) as answer:
                    if timer.expired:
                        # The timer shut the socket down, so the headers may be incomplete.
                        raise TimeoutError
                    self._judge(answer)
            except _FAILURES as error:
                raise self._failure(error, expired=timer.expired) from error
            finally:
                connection.close()

    def check(self) -> str:
        """Connect to the webhook, and verify its certificate, but send no event.

        Raises:
            DeliveryError: The webhook cannot be reached, or its certificate is not valid.
        """
        with deadline(self._seconds):
            self._connect().close()
        return f"{self.name} can be reached; whether it accepts events, only a real event shows"

    def _connect(self) -> HTTPConnection:
        """Try the addresses of the host in turn, and return the first connection that succeeds."""
        addresses = self._addresses()
        failure: DeliveryError | None = None
        for address in addresses[:MOST_ADDRESSES]:
            connection: HTTPConnection
            if self._secure:
                connection = _SecureConnection(
                    address,
                    self._port,
                    timeout=WAIT_SECONDS,
                    ssl_context=self._context,
                    server_hostname=self._host,
                )
            else:
                connection = _Connection(address, self._port, timeout=WAIT_SECONDS)
            try:
                connection.connect()
            except _FAILURES as error:
                connection.close()
                failure = self._failure(error)
                failure.__cause__ = error
            else:
                return connection
        raise failure or DeliveryError("dns", f"the host {self._host} has no address")

    def _addresses(self) -> list[str]:
        try:
            return resolve(self._host, self._port, private=self._private)
        except NoAddressError as error:
            raise DeliveryError("dns", str(error)) from error
        except PrivateAddressError as error:
            raise DeliveryError(
                "private_address", f"{error}; to allow it, set KEYHOLE_WEBHOOK_PRIVATE=true", is_final=True
            ) from error

    def _judge(self, answer: BaseHTTPResponse) -> None:
        """Raise `DeliveryError` unless the status of the answer confirms the event."""
        status = answer.status
        if 200 <= status < 300:
            return
        told = shown(answer.read1(MOST_OF_ANSWER, decode_content=False).decode(errors="replace"))
        text = f"{self.name} answered {status}" + (f": {told[:_SHOWN_OF_ANSWER]}" if told else "")
        if status in _TEMPORARY or status >= 500:
            wait = _retry_after(answer.headers.get("retry-after"))
            raise DeliveryError(f"http_{status}", text, retry_after=wait)
        if 300 <= status < 400:
            text += "; Keyhole follows no redirects, so correct KEYHOLE_WEBHOOK_URL"
        raise DeliveryError(f"http_{status}", text, is_final=True)

    def _failure(self, error: Exception, *, expired: bool = False) -> DeliveryError:
        if expired:
            return DeliveryError("timeout", f"{self.name} did not answer within {self._seconds:g} s")
        return DeliveryError("connection", f"the connection to {self.name} failed: {error}")


def _retry_after(value: str | None) -> float:
    """Return the seconds that a header `Retry-After` requests; 0 if it is missing or malformed.

    Source: RFC 9110, section 10.2.3.
    """
    text = (value or "").strip()
    if text.isdecimal() and text.isascii():
        return min(float(text), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), LONGEST_RETRY_AFTER)
