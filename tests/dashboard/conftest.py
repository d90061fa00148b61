"""A dashboard on a free port of this machine, over a real Valkey with hostile names."""

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import redis

from keyhole.dashboard.access import Access, known_hosts
from keyhole.dashboard.reader import Reader
from keyhole.dashboard.web import Dashboard, Server, bound
from keyhole.jobs.work_now import read_work
from keyhole.metrics.snapshot import Snapshot
from keyhole.metrics.store_reader import Backlog, StoreReader
from tests.dashboard.site import fill
from tests.e2e.commands import PATIENCE

TOKEN = "a-token-of-some-length"


class Answer(NamedTuple):
    """An answer. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Site:
    """A running dashboard."""

    port: int
    dashboard: Dashboard
    access: Access

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str | None) -> Answer:
        """Send one request. Underscores in names of headers stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            host = headers.pop("host", f"127.0.0.1:{self.port}")
            connection.putrequest(method, path, skip_host=True)
            if host is not None:
                connection.putheader("Host", host)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value or "")
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode())
        finally:
            connection.close()


@contextmanager
def running(client: redis.Redis, token: str | None = None) -> Iterator[Site]:
    """Run a dashboard in a thread."""
    store = StoreReader(client, prefix=None)

    def read_status() -> Snapshot:
        return Snapshot(store.read(), Backlog({}, {}), tuple(read_work(client)))

    access = Access(token, known_hosts("127.0.0.1", ["keyhole.example"]))
    dashboard = Dashboard(Reader(client, read_status), access)
    server = Server(dashboard)
    with bound("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
        thread.start()
        try:
            yield Site(port, dashboard, access)
        finally:
            dashboard.pages.live.stop()
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture
def filled(valkey: redis.Redis) -> redis.Redis:
    """A Valkey with verdicts, audits and a dead letter."""
    fill(valkey)
    return valkey


@pytest.fixture
def site(filled: redis.Redis) -> Iterator[Site]:
    """A dashboard without a token."""
    with running(filled) as site:
        yield site


@pytest.fixture
def start(valkey: redis.Redis) -> Iterator[Callable[..., Site]]:
    """A function that starts a dashboard over an empty Valkey, with a token or without."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda token=None: stack.enter_context(running(valkey, token))
