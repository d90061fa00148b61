"""The broker's URL and the options of its transport, in kombu's form."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from keyhole.store.redis_url import redis_options

#: A publisher tries to connect twice, half a second apart. kombu's default takes six seconds to give up. (The
#: retries of a worker are settings of Celery.)
_PUBLISHING = {"max_retries": 1, "interval_start": 0.5}
#: Options of a Redis URL that kombu has as options of its transport.
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
    """The options for RabbitMQ.

    Queues are durable and messages persistent by default. The virtual host's default decides whether queues
    are quorum queues. A worker has one unacknowledged message for each of its processes, at most until the
    hard limit, which is below the 30 minutes after which RabbitMQ takes it back (`keyhole.limits`).
    """
    return {
        # A publisher waits until the broker has the message, about 3 ms. Without this, all of 300 persistent
        # messages were lost when RabbitMQ 3.10 was killed a moment later.
        "confirm_publish": True,
        # Seconds for an answer. A broker that is short of memory or disk never answers.
        "read_timeout": 10,
        "write_timeout": 10,
    }


def _redis_options(visibility: int) -> dict[str, Any]:
    return {
        "visibility_timeout": visibility,
        # Without a prefix, all applications on a database share kombu's keys (`unacked`, `_kombu.…`).
        "global_keyprefix": "keyhole:broker:",
        # These detect a dead connection. (A worker's event loop has shorter timeouts.)
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def with_timeout(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:  # as above
    """Return the options of the transport with timeouts of at most `seconds`."""
    timeouts = options.keys() & {"socket_timeout", "socket_connect_timeout", "read_timeout", "write_timeout"}
    return {**options, **{name: min(options[name], seconds) for name in timeouts}}


def is_redis(url: str | None) -> bool:
    """Whether the broker is a Redis."""
    return _scheme(url) in {"redis", "rediss", "unix"}


def is_amqp(url: str | None) -> bool:
    """Whether the broker speaks AMQP, such as RabbitMQ."""
    return _scheme(url) in {"amqp", "amqps"}


def _scheme(url: str | None) -> str:
    return urlsplit(url).scheme if url else ""


def kombu_url(url: str) -> str:
    """The URL in kombu's form, without its options, whose meaning differs in kombu.

    A Unix socket is `redis+socket://`. kombu would split a URL with an unquoted `;` into two brokers.
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
    """The options by which kombu verifies the broker's certificate and name; its defaults do not."""
    if _scheme(url) == "amqps":
        return {"server_hostname": urlsplit(str(url)).hostname}
    if _scheme(url) == "rediss":
        return {name: value for name, value in redis_options(str(url)).items() if name.startswith("ssl_")}
    return False


def _of_transport(url: str) -> dict[str, Any]:  # as above
    """The options of a Redis URL beyond address, login and TLS."""
    given = redis_options(url)
    return {name: given[name] for name in given.keys() & _TRANSPORT_OPTIONS}
