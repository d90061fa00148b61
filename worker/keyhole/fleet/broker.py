"""Translates the broker's URL and options into kombu's form."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from keyhole.store.redis_url import redis_options

#: A publisher tries to connect twice, half a second apart. With kombu's defaults, it would try for six
#: seconds. (Celery's settings define the retries of a worker.)
_PUBLISHING = {"max_retries": 1, "interval_start": 0.5}
#: The options of a Redis URL that kombu accepts as options of its transport.
_TRANSPORT_OPTIONS: Final = frozenset(
    {"socket_timeout", "socket_connect_timeout", "health_check_interval", "client_name"}
)


def transport_options(url: str | None, visibility: int) -> dict[str, Any]:  # kombu's options have many types
    """Return the options of kombu's transport, for publishers and workers.

    Args:
        url: The broker's URL.
        visibility: The visibility timeout in seconds.
    """
    return _PUBLISHING | _by_scheme(url, visibility)


def _by_scheme(url: str | None, visibility: int) -> dict[str, Any]:  # as above
    if is_redis(url):
        return _redis_options(visibility) | _of_transport(str(url))
    if _scheme(url) == "sqs":
        return {"visibility_timeout": visibility}
    return _amqp_options() if is_amqp(url) else {}


def _amqp_options() -> dict[str, Any]:
    """Return the options for RabbitMQ.

    By default, kombu declares durable queues and publishes persistent messages. The virtual host's default
    decides whether the queues are quorum queues. A worker holds one unacknowledged message per pool process,
    for no longer than the hard time limit. This limit is shorter than the 30 minutes after which RabbitMQ
    would deliver the message again (`keyhole.limits`).
    """
    return {
        # A publisher waits, for about 3 ms, until the broker confirms that it has stored the message. In a
        # test without confirms, RabbitMQ 3.10 was killed right after publishing and lost all of 300
        # persistent messages.
        "confirm_publish": True,
        # Seconds to wait for an answer. A broker that runs out of memory or disk never answers.
        "read_timeout": 10,
        "write_timeout": 10,
    }


def _redis_options(visibility: int) -> dict[str, Any]:
    return {
        "visibility_timeout": visibility,
        # Without this prefix, all Celery applications that use the same Redis database would share kombu's
        # keys (`unacked`, `_kombu.…`).
        "global_keyprefix": "keyhole:broker:",
        # The following options let kombu detect a dead connection. The event loop of a worker uses shorter
        # timeouts (`with_timeout`).
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def with_timeout(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:  # as above
    """Return transport options in which no timeout is longer than `seconds`."""
    timeouts = options.keys() & {"socket_timeout", "socket_connect_timeout", "read_timeout", "write_timeout"}
    return {**options, **{name: min(options[name], seconds) for name in timeouts}}


def is_redis(url: str | None) -> bool:
    """Return whether a broker's URL is the URL of a Redis or Valkey."""
    return _scheme(url) in {"redis", "rediss", "unix"}


def is_amqp(url: str | None) -> bool:
    """Return whether a broker's URL is the URL of an AMQP broker, such as RabbitMQ."""
    return _scheme(url) in {"amqp", "amqps"}


def _scheme(url: str | None) -> str:
    return urlsplit(url).scheme if url else ""


def kombu_url(url: str) -> str:
    """Return a broker's URL in kombu's form, without its query options.

    The query options are left out, because kombu interprets them differently than redis-py. The URL of a Unix
    socket begins with `redis+socket://`. Special characters are percent-encoded, because kombu would split a
    URL that contains `;` into the URLs of two brokers.
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
    """Return the TLS options with which kombu verifies the broker's certificate and host name.

    By default, kombu does not verify them.
    """
    if _scheme(url) == "amqps":
        return {"server_hostname": urlsplit(str(url)).hostname}
    if _scheme(url) == "rediss":
        return {name: value for name, value in redis_options(str(url)).items() if name.startswith("ssl_")}
    return False


def _of_transport(url: str) -> dict[str, Any]:  # as above
    """Return the options in a Redis URL that kombu accepts as options of its transport."""
    given = redis_options(url)
    return {name: given[name] for name in given.keys() & _TRANSPORT_OPTIONS}
