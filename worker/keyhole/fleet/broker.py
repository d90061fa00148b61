"""The broker's URL and the options of its transport, as kombu takes them."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from keyhole.store.redis_url import redis_options

#: A publisher connects twice, half a second apart; kombu's default takes six seconds to give up. (A worker's
#: retries are settings of Celery's.)
_PUBLISHING = {"max_retries": 1, "interval_start": 0.5}
#: Options of a Redis URL that kombu takes as options of its transport.
_TRANSPORT_OPTIONS: Final = frozenset(
    {"socket_timeout", "socket_connect_timeout", "health_check_interval", "client_name"}
)


def transport_options(url: str | None, visibility: int) -> dict[str, Any]:  # kombu's are of every type
    """Options of kombu's transport, for publishers and workers alike; `visibility` in seconds."""
    return _PUBLISHING | _by_scheme(url, visibility)


def _by_scheme(url: str | None, visibility: int) -> dict[str, Any]:  # as above
    if is_redis(url):
        return _redis_options(visibility) | _of_transport(str(url))
    if _scheme(url) == "sqs":
        return {"visibility_timeout": visibility}
    return _amqp_options() if is_amqp(url) else {}


def _amqp_options() -> dict[str, Any]:
    """For RabbitMQ; of queues and prefetch there is nothing to be said.

    Queues are durable and messages persistent by default, and whether they are quorum queues, the virtual
    host's default says. A worker has one message in hand for each of its processes, until the hard limit at
    most: that is below the 30 minutes after which RabbitMQ takes it back (`keyhole.limits`).
    """
    return {
        # A publisher waits until the broker has the message. Without, all of 300 persistent messages were
        # gone when RabbitMQ 3.10 was killed a moment later; and it took no longer, about 3 ms each.
        "confirm_publish": True,
        # Seconds for an answer: a broker that is short of memory or disk takes messages, and never answers.
        "read_timeout": 10,
        "write_timeout": 10,
    }


def _redis_options(visibility: int) -> dict[str, Any]:
    return {
        "visibility_timeout": visibility,
        # kombu's own keys (`unacked`, `_kombu.…`) are shared by every application on a database.
        "global_keyprefix": "keyhole:broker:",
        # A connection that died silently is noticed. (A worker's event loop has less patience.)
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def with_timeout(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:  # as above
    """Options of the transport with which nobody waits for the broker for longer than so many seconds."""
    timeouts = options.keys() & {"socket_timeout", "socket_connect_timeout", "read_timeout", "write_timeout"}
    return {**options, **{name: min(options[name], seconds) for name in timeouts}}


def is_redis(url: str | None) -> bool:
    """Whether the broker is a Redis."""
    return _scheme(url) in {"redis", "rediss", "unix"}


def is_amqp(url: str | None) -> bool:
    """Whether the broker speaks AMQP, as RabbitMQ does."""
    return _scheme(url) in {"amqp", "amqps"}


def _scheme(url: str | None) -> str:
    return urlsplit(url).scheme if url else ""


def kombu_url(url: str) -> str:
    """The URL as kombu spells it, without the options, which it would understand in another way.

    A Unix socket is `redis+socket://`. An unquoted `;` would divide the URL into those of two brokers.
    """
    if not is_redis(url):
        return url
    found = redis_options(url)
    user, password = (quote(found.get(name, ""), safe="") for name in ("username", "password"))
    login = f"{user}:{password}@" if user or password else ""
    if "path" in found:
        return f"redis+socket://{login}{quote(found['path'])}?virtual_host={found['db']}"
    host = f"[{found['host']}]" if ":" in found["host"] else quote(found["host"])
    return f"{_scheme(url)}://{login}{host}:{found.get('port', 6379)}/{found['db']}"


def tls(url: str | None) -> dict[str, Any] | bool:  # as above
    """How kombu verifies the broker. By default it compares no name, and asks a Redis for no certificate."""
    if _scheme(url) == "amqps":
        return {"server_hostname": urlsplit(str(url)).hostname}
    if _scheme(url) == "rediss":
        return {name: value for name, value in redis_options(str(url)).items() if name.startswith("ssl_")}
    return False


def _of_transport(url: str) -> dict[str, Any]:  # as above
    """What the URL of a Redis says beyond its place, its login and TLS."""
    given = redis_options(url)
    return {name: given[name] for name in given.keys() & _TRANSPORT_OPTIONS}
