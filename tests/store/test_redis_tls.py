"""A Redis over TLS: kombu and redis-py both verify its certificate and use the options of its URL."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redbeat.schedulers import get_redis

from keyhole.app import configuration
from keyhole.fleet import scheduling
from keyhole.settings import Settings
from keyhole.store.cluster import SlotUnavailableError
from keyhole.store.connection import connect
from tests.ports import free_port
from tests.servers.certificates import make_authority
from tests.servers.redis_server import RedisServer, redis_server

#: The errors that both clients raise.
TROUBLE = (redis.RedisError, OperationalError, OSError)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def by_store(url: str) -> None:
    """Connect to a Redis as the store does."""
    with connect(url, retries=0) as client:
        client.ping()


def by_broker(url: str) -> None:
    """Connect to a Redis as workers and publishers do."""
    celery = Celery(set_as_current=False)
    celery.conf.update(configuration(Settings(redis_url=url)))
    with celery.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=60)
        connection.default_channel.client.ping()


def by_scheduler(url: str) -> None:
    """Connect to a Redis as RedBeat does."""
    celery = Celery(set_as_current=False)
    celery.conf.update(scheduling.configuration(url, [], 30))
    with get_redis(celery) as client:
        client.ping()


either = pytest.mark.parametrize("ask", [by_store, by_broker, by_scheduler])
Ask = Callable[[str], None]


@either
def test_a_stranger_is_refused_and_gets_no_password(server: RedisServer, ask: Ask) -> None:
    """A server with an untrusted certificate receives only the start of a TLS handshake."""
    heard: list[bytes] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.ca, server.folder / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    with context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                        heard.append(connection.recv(1000))
                except OSError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            with pytest.raises(TROUBLE, match="CERTIFICATE_VERIFY_FAILED"):
                ask(f"rediss://:s3cret@127.0.0.1:{listener.getsockname()[1]}")
        finally:
            ended.set()
            thread.join()
    assert heard == []


@either
@pytest.mark.parametrize(
    ("host", "query", "accepted"),
    [
        ("127.0.0.1", "?ssl_ca_certs={ca}", True),
        ("127.0.0.1", "?ssl_cert_reqs=none", True),
        ("127.0.0.1", "", False),
        ("localhost", "?ssl_ca_certs={ca}", False),
        ("localhost", "?ssl_ca_certs={ca}&ssl_check_hostname=false", True),
        ("127.0.0.1", "?ssl_ca_certs={ca}&ssl_certfile={ca}&ssl_keyfile={key}", True),
    ],
)
def test_certificate_and_name_are_verified(
    server: RedisServer, ask: Ask, host: str, query: str, accepted: bool
) -> None:
    query = query.format(ca=server.ca, key=server.folder / "key.pem")
    url = server.url(scheme="rediss", query=query).replace("127.0.0.1", host)
    if accepted:
        ask(url)
    else:
        with pytest.raises(TROUBLE, match="CERTIFICATE_VERIFY_FAILED"):
            ask(url)


@either
def test_authorities_of_the_environment_are_trusted(
    server: RedisServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))

    ask(server.url(scheme="rediss"))


@either
def test_authorities_of_the_url_are_the_only_ones(
    server: RedisServer, ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
    other = make_authority(tmp_path).file

    with pytest.raises(TROUBLE, match="CERTIFICATE_VERIFY_FAILED"):
        ask(server.url(scheme="rediss", query=f"?ssl_ca_certs={other}"))


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@either
def test_all_options_mean_the_same(server: RedisServer, ask: Ask, scheme: str) -> None:
    """The server sees the same options."""
    tls = f"&ssl_ca_certs={server.ca}" if scheme == "rediss" else ""
    options = "socket_timeout=5&socket_connect_timeout=5&health_check_interval=9&client_name=me&db=3"
    seen: list[dict[str, str]] = []
    with server.client() as observer, observer.monitor() as monitor:
        ask(server.url(scheme=scheme, query=f"?{options}{tls}"))
        observer.set("last", "1")
        for line in iter(monitor.next_command, None):
            seen.append(line)
            if line["command"] == "SET last 1":
                break
    assert any(line["command"] == "CLIENT SETNAME me" for line in seen)
    assert {line["db"] for line in seen if line["command"] == "PING"} == {3}


@pytest.mark.parametrize(("announced", "is_verified"), [("127.0.0.1", True), ("127.0.0.2", False)])
def test_the_certificate_of_a_clusters_node_is_verified(announced: str, is_verified: bool) -> None:
    """The client connects to the TLS port of the node, at the address that the cluster states."""
    with redis_server(
        *("--bind", "127.0.0.1 127.0.0.2", "--cluster-port", str(free_port())),
        *("--cluster-enabled", "yes", "--tls-cluster", "yes", "--tls-ca-cert-dir", "/etc"),
        *("--cluster-announce-ip", announced),
    ) as server:
        with server.client() as admin:
            admin.execute_command("CLUSTER ADDSLOTS", *range(16384))
        url = server.url(scheme="rediss", query=f"?ssl_ca_certs={server.ca}")
        if is_verified:
            by_store(url)
            return
        with pytest.raises(SlotUnavailableError, match=f"{announced}:{server.tls_port} does not answer.*SSL"):
            by_store(url)
