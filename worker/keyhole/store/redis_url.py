"""Parses the URLs of Redis servers, in the same way for redis-py (verdicts) and for kombu (the broker).

| URL | connection |
|---|---|
| `redis://user:password@host:6379/0` | TCP, to database 0 |
| `rediss://user:password@host:6379/0` | TLS; the certificate and the host name in it are verified |
| `unix:///run/valkey.sock?db=0` | Unix socket |

`OPTIONS` lists the options that are allowed in the query string. Other options are refused, because redis-py
and kombu interpret them differently. Clients trust the certificate authorities that the URL names. If the URL
names none, clients trust OpenSSL's default authorities: those of the system, or those in the file that the
variable `SSL_CERT_FILE` names.
"""

from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES: Final = ("redis", "rediss", "unix")
#: The options that name a PEM file or a folder of PEM files.
_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
#: The options that only a `rediss://` URL can have.
_TLS_OPTIONS: Final = ("ssl_cert_reqs", "ssl_check_hostname", *_FILES)
#: All options that are allowed in a query string.
OPTIONS: Final = (
    "db",
    "socket_timeout",
    "socket_connect_timeout",
    "health_check_interval",
    "client_name",
    *_TLS_OPTIONS,
)
_CERT_REQS: Final = ("required", "optional", "none")
#: The shortest timeouts, in seconds, that a URL can set. `BROKER_SECONDS` applies to KEYHOLE_BROKER_URL and
#: KEYHOLE_REDIS_URL, because both can name the broker: a worker's request for a message blocks for up to one
#: second, so the broker's timeouts must be longer. `SECONDS` applies to other URLs, such as the URL of the
#: events queue.
BROKER_SECONDS: Final = 2.0
SECONDS: Final = 0.1
_SWITCH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def redis_options(
    url: str, *, least_seconds: float = BROKER_SECONDS
) -> dict[str, Any]:  # the options of redis-py have many types
    """Return the options in a URL under redis-py's names.

    The options always include `db`, and `host` or `path`.

    For `rediss://`, this function reads all files that the URL names, to detect wrong paths early.

    Args:
        url: The URL, which need not be valid.
        least_seconds: The shortest timeout in seconds that the URL can set: `BROKER_SECONDS` or `SECONDS`.

    Raises:
        ValueError: This is not a Redis URL, or an option is not allowed or has a wrong value. The message
            contains neither the user nor the password.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError(_wrong_scheme(parts.scheme))
    # Import this module only if the settings name a Redis, because the import takes time.
    from redis.connection import parse_url  # noqa: PLC0415 - see above

    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in query.items():
        _check_option(parts.scheme, name, value, least_seconds)
    database = query.get("db", "" if parts.scheme == "unix" else unquote(parts.path).strip("/")) or "0"
    if not (database.isascii() and database.isdecimal()):
        raise ValueError("its database must be a number, such as 0 in redis://:password@host:6379/0")
    found: dict[str, Any] = {"host": "localhost"} if parts.scheme != "unix" else {}
    found |= parse_url(url)  # type: ignore[no-untyped-call] # redis-py's
    found.pop("connection_class", None)
    found["db"] = int(database)
    if parts.scheme == "rediss":
        if "ssl_check_hostname" in query:
            found["ssl_check_hostname"] = _SWITCH[query["ssl_check_hostname"].lower()]
        found["ssl_cert_reqs"] = query.get("ssl_cert_reqs", "required")
        _check_files(found)
    return found


def _wrong_scheme(scheme: str) -> str:
    """Return the error message for a URL whose scheme Keyhole does not support."""
    if "sentinel" in scheme:
        return (
            "Keyhole does not use Redis Sentinel; write the URL of the primary, or of an address that leads "
            "to the primary, such as redis://:password@host:6379/0"
        )
    if "cluster" in scheme:
        return "for a cluster, write the URL of one of its nodes, redis://:password@host:6379/0 or rediss://"
    if scheme in {"valkey", "valkeys"}:
        known = f"redis{scheme[6:]}://"
        return f"write {known} instead of {scheme}://, as in {known}:password@host:6379/0"
    return "it is not a Redis URL; write redis://:password@host:6379/0, rediss:// for TLS, or unix:///path"


def _check_option(scheme: str, name: str, value: str, least_seconds: float) -> None:
    if name not in OPTIONS:
        raise ValueError(f"it has the option {name}; the options are {', '.join(OPTIONS)}")
    if name in _TLS_OPTIONS and scheme != "rediss":
        raise ValueError(f"its option {name} is only for rediss://, which uses TLS")
    if name in {"socket_timeout", "socket_connect_timeout", "health_check_interval"}:
        try:
            seconds = int(value) if name == "health_check_interval" else float(value)
        except ValueError:
            seconds = 0
        # This comparison also refuses NaN.
        if not least_seconds <= seconds <= 3600:
            raise ValueError(f"its {name} must be a number of seconds from {least_seconds:g} to 3600")
    if name in _FILES and not value.startswith("/"):
        raise ValueError(f"its {name} must be an absolute path, which begins with /")
    if name == "ssl_cert_reqs" and value not in _CERT_REQS:
        raise ValueError(f"its ssl_cert_reqs must be one of {', '.join(_CERT_REQS)}")
    if name == "ssl_check_hostname" and value.lower() not in _SWITCH:
        raise ValueError("its ssl_check_hostname must be true or false")
    if not value:
        raise ValueError(f"its option {name} has no value")


def _check_files(options: dict[str, Any]) -> None:
    """Read the files with certificates and keys.

    Raises:
        ValueError: A file cannot be read or is not valid.
    """
    import ssl  # noqa: PLC0415 - most commands need no TLS to Redis

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities = {"ssl_ca_certs", "ssl_ca_path"} & options.keys()
    named = "its ssl_ca_certs or ssl_ca_path"
    try:
        if authorities:
            context.load_verify_locations(options.get("ssl_ca_certs"), options.get("ssl_ca_path"))
        named = "its ssl_certfile or ssl_keyfile"
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"), password="")
        elif "ssl_keyfile" in options:
            raise ValueError("it has an ssl_keyfile but no ssl_certfile")
    except OSError as error:  # includes ssl.SSLError
        raise ValueError(f"{named} cannot be used: {error}") from error
