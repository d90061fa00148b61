"""Opens the source of messages that a URL describes.

| URL | queue |
|---|---|
| `sqs://queue` | an SQS queue, identified by its name, in the region and account of the credentials |
| `https://sqs.eu-central-1.amazonaws.com/123456789012/queue` | an SQS queue, with the URL that AWS shows |
| `sqs://host/account/queue` | an SQS queue, through HTTPS |
| `http://host:port/account/queue` | a queue on another server with SQS's API, without TLS |
| `amqp://user:password@host/vhost/queue` | a RabbitMQ queue; `amqps` uses TLS |
| `amqp://host/queue?exchange=NAME&routing_key=KEY` | a queue that Keyhole declares and binds to an exchange |
| `redis://:password@host/0/key` | a list in Redis, here in database 0; `rediss` uses TLS |
| `unix:///run/valkey.sock?db=0&key=key` | a list in Redis, through a Unix socket |

The schemes `sqs+https` and `sqs+http` mean the same as `https` and `http`. In names and passwords, special
characters of URLs (`/ @ : # ? %`) must be written as `%2F` and so on; only a Redis key can contain `/`. With
`&exchange_type=topic` (or another type), Keyhole also declares a missing exchange. Certificates are verified.
If the environment variable `SSL_CERT_FILE` names a file, clients trust the certificate authorities in this
file instead of those of the system.
"""

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode

import boto3
from botocore.exceptions import BotoCoreError

from keyhole.intake.events.amqp import AmqpSource
from keyhole.intake.events.amqp_queue import AmqpQueue, Binding
from keyhole.intake.events.redis_list import RedisListSource
from keyhole.intake.events.source import MessageSource
from keyhole.intake.events.sqs import SqsQueue, SqsSource
from keyhole.masking import split_url
from keyhole.store.connection import connect

_SQS_EXAMPLE: Final = "https://sqs.eu-central-1.amazonaws.com/123456789012/queue or sqs://queue"
_AMQP_EXAMPLE: Final = "amqp://user:password@host:5672/vhost/queue (without vhost: the default vhost)"
_BINDING_EXAMPLE: Final = "amqp://user:password@host/queue?exchange=NAME&routing_key=KEY"
_REDIS_EXAMPLE: Final = "redis://:password@host:6379/0/key"
_UNIX_EXAMPLE: Final = "unix:///run/valkey.sock?db=0&key=key"

#: The schemes for SQS queues, each with its protocol.
_SQS_SCHEMES: Final = {
    "sqs": "https",
    "sqs+https": "https",
    "https": "https",
    "sqs+http": "http",
    "http": "http",
}
_SQS_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}(\.fifo)?")
#: A pattern that finds the region in AWS's host names of SQS. These are the standard names, and the names for
#: FIPS, dual stack (api.aws) and PrivateLink (vpce).
_AWS_REGION: Final = re.compile(r"\bsqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.|api\.)?(?:amazonaws|aws)\b")
_BINDING_OPTIONS: Final = {"exchange", "routing_key", "exchange_type"}
_EXCHANGE_TYPES: Final = {"topic", "fanout", "direct", "headers"}
#: Options of redis-py that contradict the URL or Keyhole's own options.
_REFUSED_REDIS_OPTIONS: Final = {"db", "decode_responses", "protocol"}
#: The maximum length of an AMQP name, in bytes.
_LONGEST_AMQP_NAME: Final = 255


def open_source(
    url: str,
    *,
    listener_id: str,
    region: str | None = None,
    endpoint_url: str | None = None,
    answer_seconds: float | None = None,
) -> MessageSource:
    """Return the source that a URL describes. The source connects at its first `receive`.

    Args:
        url: The URL of a queue, in one of the forms above.
        listener_id: The listener's name, which the broker or Redis shows to administrators.
        region: The region of an SQS queue, if its URL does not contain the region. By default, boto3
            determines the region.
        endpoint_url: The URL of a server other than AWS, if the SQS queue is identified by its name.
        answer_seconds: The longest wait for a connection or a response, in seconds. If this time is set, the
            source does not repeat failed requests.

    Raises:
        ValueError: The URL does not describe a queue. The error message contains a correct example. The error
            message contains no part of the URL, because the URL may contain a password in an unexpected
            place.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in _SQS_SCHEMES:
        address = _sqs_queue(split_url(url, _SQS_EXAMPLE), region, endpoint_url)
        return SqsSource(address, answer_seconds=answer_seconds)
    if scheme in {"amqp", "amqps"}:
        return AmqpSource(
            _amqp_queue(split_url(url, _AMQP_EXAMPLE)),
            client_name=f"keyhole {listener_id}",
            answer_seconds=answer_seconds,
        )
    if scheme in {"redis", "rediss"}:
        return _redis_list(split_url(url, _REDIS_EXAMPLE), listener_id, answer_seconds)
    if scheme == "unix":
        return _redis_list_by_socket(split_url(url, _UNIX_EXAMPLE), listener_id, answer_seconds)
    raise ValueError(
        f"it is not the URL of a queue; write {_SQS_EXAMPLE}, {_AMQP_EXAMPLE}, {_REDIS_EXAMPLE}, "
        f"or {_UNIX_EXAMPLE}"
    )


def _unquote(text: str, example: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"characters that are encoded with % must be UTF-8; write {example}") from None


def _options(parts: SplitResult) -> dict[str, str]:
    return dict(parse_qsl(parts.query, keep_blank_values=True))


def _sqs_queue(parts: SplitResult, region: str | None, endpoint_url: str | None) -> SqsQueue:
    protocol = _SQS_SCHEMES[parts.scheme]
    *account, queue = parts.path.strip("/").split("/") if parts.path.strip("/") else [parts.netloc]
    by_name = parts.scheme == "sqs" and not parts.path
    if not (by_name or account) or not _SQS_NAME.fullmatch(queue) or parts.query or parts.username:
        raise ValueError(
            f"it is not an SQS queue; write {_SQS_EXAMPLE}; boto3 finds the credentials in its usual places"
        )
    if not by_name:
        found = _AWS_REGION.search(parts.netloc)
        place = f"{protocol}://{parts.netloc}"
        return SqsQueue(
            queue, url=place + parts.path, region=found[1] if found else region, endpoint_url=place
        )
    try:
        known = region or endpoint_url or boto3.session.Session().region_name
    except BotoCoreError as error:
        raise ValueError(str(error)) from error
    if not known:
        raise ValueError(
            f"the region of the SQS queue {queue} is unknown; write {_SQS_EXAMPLE.partition(' ')[0]}, "
            "or set AWS_DEFAULT_REGION"
        )
    return SqsQueue(queue, region=region, endpoint_url=endpoint_url)


def _amqp_queue(parts: SplitResult) -> AmqpQueue:
    names = [_unquote(name, _AMQP_EXAMPLE) for name in parts.path.removeprefix("/").split("/")]
    vhost, queue = ("/", names[0]) if len(names) == 1 else (names[0] or "/", names[-1])
    if not parts.hostname or len(names) > 2 or not 0 < len(queue.encode()) <= _LONGEST_AMQP_NAME:
        raise ValueError(f"it is not an AMQP queue; write {_AMQP_EXAMPLE}")
    user = {} if parts.username is None else {"user": _unquote(parts.username, _AMQP_EXAMPLE)}
    password = {} if parts.password is None else {"password": _unquote(parts.password, _AMQP_EXAMPLE)}
    return AmqpQueue(
        host=parts.hostname,
        port=parts.port,
        vhost=vhost,
        queue=queue,
        tls=parts.scheme == "amqps",
        binding=_binding(_options(parts)),
        **user,
        **password,
    )


def _binding(options: dict[str, str]) -> Binding | None:
    if not options:
        return None
    exchange, routing_key = options.get("exchange"), options.get("routing_key")
    declare = options.get("exchange_type")
    names = (exchange or "", routing_key or "")
    if (
        not exchange
        or routing_key is None
        or options.keys() - _BINDING_OPTIONS
        or declare not in {None, *_EXCHANGE_TYPES}
        or max(len(name.encode()) for name in names) > _LONGEST_AMQP_NAME
    ):
        raise ValueError(
            f"its options are wrong; write {_BINDING_EXAMPLE}; to let Keyhole declare the exchange, add "
            f"&exchange_type= and one of {', '.join(sorted(_EXCHANGE_TYPES))}"
        )
    return Binding(exchange, routing_key, declare)


def _redis_list(parts: SplitResult, listener_id: str, answer_seconds: float | None) -> RedisListSource:
    path = parts.path.removeprefix("/")
    database, _, key = path.partition("/") if "/" in path else ("0", "", path)
    key = _unquote(key, _REDIS_EXAMPLE)
    if not parts.hostname or not re.fullmatch("[0-9]{1,5}", database) or not key:
        raise ValueError(f"it is not a list in Redis; write {_REDIS_EXAMPLE}")
    place = parts.netloc.rpartition("@")[2]
    return _open_list(
        f"{parts.scheme}://{parts.netloc}/{database}",
        _options(parts),
        key,
        name=f"{parts.scheme}://{place}/{database}/{quote(key, safe='/:')}",
        listener_id=listener_id,
        answer_seconds=answer_seconds,
    )


def _redis_list_by_socket(
    parts: SplitResult, listener_id: str, answer_seconds: float | None
) -> RedisListSource:
    options = _options(parts)
    key, database = options.pop("key", ""), options.pop("db", "0")
    if not parts.path or not re.fullmatch("[0-9]{1,5}", database) or not key:
        raise ValueError(f"it is not a list in Redis; write {_UNIX_EXAMPLE}")
    return _open_list(
        f"unix://{parts.netloc}{parts.path}?db={database}",
        options,
        key,
        name=f"unix://{parts.path}?db={database}&key={quote(key, safe='/:')}",
        listener_id=listener_id,
        answer_seconds=answer_seconds,
    )


def _open_list(
    url: str,
    options: dict[str, str],
    key: str,
    *,
    name: str,
    listener_id: str,
    answer_seconds: float | None,
) -> RedisListSource:
    refusal = ValueError(f"it has an invalid option; write {_REDIS_EXAMPLE} or {_UNIX_EXAMPLE}")
    if options.keys() & _REFUSED_REDIS_OPTIONS:
        raise refusal
    try:
        retries = {} if answer_seconds is None else {"retries": 0}
        client = connect(
            url + ("&" if "?" in url else "?") + urlencode(options),
            answer_seconds=answer_seconds,
            only_server=True,
            **retries,
        )
        pool = client.connection_pool
        # Create a connection object now; otherwise only the first command would detect an unknown option.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError):
        raise refusal from None
    return RedisListSource(client, key, name=name, listener_id=listener_id)
