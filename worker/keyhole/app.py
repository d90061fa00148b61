"""The Celery application: broker, queues, and what a worker may lose, repeat or wait for.

Every setting has its reason beside it. The ones about delivery belong together: a message is acknowledged
when its work is done, so it is delivered again when a worker dies; the ledger (`keyhole.jobs.ledger`)
recognises what was done, and keeps what a broker loses.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from celery import Celery
from celery.signals import before_task_publish, setup_logging, worker_shutting_down
from kombu.entity import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from keyhole import logs
from keyhole.fleet.signing import use_keys
from keyhole.jobs.queues import JOBS, QUEUES
from keyhole.limits import LAST_SHUTDOWN, SHUTDOWN
from keyhole.settings import Settings
from keyhole.store.redis_url import redis_options

#: A message's header: when it was sent, in seconds since 1970.
SENT_AT: Final = "keyhole_sent_at"
#: A publisher connects twice, half a second apart; kombu's default takes six seconds to give up. (A worker's
#: retries are settings of Celery's.)
_PUBLISHING = {"max_retries": 1, "interval_start": 0.5}
#: Options of a Redis URL that kombu takes as options of its transport.
_TRANSPORT_OPTIONS: Final = frozenset(
    {"socket_timeout", "socket_connect_timeout", "health_check_interval", "client_name"}
)


def configuration(settings: Settings) -> dict[str, Any]:  # Celery's settings are of every type
    """Celery's settings for ours."""
    url = settings.broker_url or settings.redis_url
    limits = settings.limits
    return {
        "broker_url": _kombu_url(url) if url else None,
        "broker_transport_options": _PUBLISHING | _transport_options(url, limits.visibility),
        "broker_use_ssl": _tls(url),
        # What a host had in hand that vanished is delivered again after two of these (seconds; AMQP alone).
        "broker_heartbeat": 30,
        # A broker that is away comes back: never give up, neither at the start nor later.
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,
        # Publishing tells soon that the broker is away; the ledger has the job, the caller decides.
        "task_publish_retry": False,
        # The report is the result; Celery's own would cost Redis five more commands a task.
        "task_ignore_result": True,
        "result_backend": None,
        # A closed list: a misspelt queue is an error, not a place where jobs wait for ever.
        "task_queues": [Queue(name, Exchange(name), routing_key=name, durable=True) for name in QUEUES],
        "task_default_queue": JOBS,
        "task_default_exchange": JOBS,
        "task_default_routing_key": JOBS,
        "task_create_missing_queues": False,
        # JSON only: a message cannot carry code.
        "accept_content": ["json"],
        "task_serializer": "json",
        # Acknowledge after the work, so that a dead worker's message is delivered again …
        "task_acks_late": True,
        # … and a few times at most: a job that kills its worker would be repeated for ever by rejecting it.
        "task_retry_on_worker_lost": True,
        "task_soft_time_limit": limits.soft,
        "task_time_limit": limits.hard,
        # One message at a time and none in reserve: a message in a busy worker's memory helps nobody.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": _is_redis(url),
        # A worker's queue for commands (the doctor's ping) is exclusive by default. By RabbitMQ a worker that
        # connects again is refused it, and gets no work, until the old connection is known to be gone. (It
        # expires when it is unused. RabbitMQ 4.3 takes none that is neither exclusive nor durable.)
        "control_queue_exclusive": not _is_amqp(url),
        "control_queue_durable": _is_amqp(url),
        # A worker whose connection is lost finishes what it does. Its message is delivered again, and whoever
        # gets it finds in the ledger that somebody is busy with it, or that it is done.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A hostile image is contained by the process; a process that has grown is replaced (KiB).
        "worker_max_memory_per_child": 512 * 1024,
        # What a worker cannot work on is kept.
        "worker_consumer": "keyhole.fleet.consumer:Consumer",
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


def _transport_options(
    url: str | None, visibility: int
) -> dict[str, Any]:  # kombu's options are of every type
    if _is_redis(url):
        return _redis_options(visibility) | _of_transport(str(url))
    if _scheme(url) == "sqs":
        return {"visibility_timeout": visibility}
    return _amqp_options() if _is_amqp(url) else {}


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


def impatient(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:  # as above
    """Options of the transport with which nobody waits for the broker for longer than so many seconds."""
    timeouts = options.keys() & {"socket_timeout", "socket_connect_timeout", "read_timeout", "write_timeout"}
    return {**options, **{name: min(options[name], seconds) for name in timeouts}}


def _is_redis(url: str | None) -> bool:
    return _scheme(url) in {"redis", "rediss", "unix"}


def _is_amqp(url: str | None) -> bool:
    return _scheme(url) in {"amqp", "amqps"}


def _scheme(url: str | None) -> str:
    return urlsplit(url).scheme if url else ""


def _kombu_url(url: str) -> str:
    """The URL as kombu spells it, without the options, which it would understand in another way.

    A Unix socket is `redis+socket://`. An unquoted `;` would divide the URL into those of two brokers.
    """
    if not _is_redis(url):
        return url
    found = redis_options(url)
    user, password = (quote(found.get(name, ""), safe="") for name in ("username", "password"))
    login = f"{user}:{password}@" if user or password else ""
    if "path" in found:
        return f"redis+socket://{login}{quote(found['path'])}?virtual_host={found['db']}"
    host = f"[{found['host']}]" if ":" in found["host"] else quote(found["host"])
    return f"{_scheme(url)}://{login}{host}:{found.get('port', 6379)}/{found['db']}"


def _tls(url: str | None) -> dict[str, Any] | bool:  # as above
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


#: What lies in Redis's lists need not be messages, and RabbitMQ says why it takes none; these keep both.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "keyhole.fleet.redis_transport:Transport"))
TRANSPORT_ALIASES.update(
    amqp="keyhole.fleet.amqp_transport:Transport", amqps="keyhole.fleet.amqp_transport:SSLTransport"
)

# Only workers import these.
app = Celery(
    "keyhole",
    include=["keyhole.tasks", "keyhole.fleet.pool_process"],
    control="keyhole.fleet.mailbox:Control",
)


def configure(settings: Settings) -> Celery:
    """Configure the application by settings other than the environment's, as with the embedded Valkey."""
    use_keys(settings.signing_key_file)
    app.conf.update(configuration(settings))
    # What was published before may have left connections to another broker.
    app._after_fork()  # noqa: SLF001 - Celery has no other way to forget its pools, and keep the application
    return app


def _log_by_structlog(loglevel: int = logging.INFO, **_: object) -> None:
    logs.configure(logging.getLevelName(loglevel).lower())


def _stop_in_time(**_: object) -> None:
    """Bound a worker's warm shutdown, which ends with the tasks that run, by a cold one, and that by an exit.

    Celery's own bound, the soft shutdown, sleeps to its end in the signal's handler: a worker that has a task
    would always take that long, and acknowledge nothing that it finished meanwhile. The cold one can wait for
    a pool whose processes hang, or for a broker that does not answer.
    """
    for seconds, action, arguments in (
        (SHUTDOWN, os.kill, (os.getpid(), signal.SIGQUIT)),
        (LAST_SHUTDOWN, _end_now, ()),
    ):
        timer = threading.Timer(seconds, action, arguments)
        timer.daemon = True
        timer.start()


def _end_now() -> None:
    """End this process and its children, whatever they wait for.

    Nothing is lost by it: the ledger has what they were busy with, and others take it back.
    """
    logging.getLogger(__name__).error(
        "the worker did not end within %d seconds, and is ended; others take back its work", LAST_SHUTDOWN
    )
    for pid in _children():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _children() -> list[int]:
    """The processes that this one started; none where the system has no /proc."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text(encoding="ascii").split())
    return found


def _note_when(headers: dict[str, Any], **_: object) -> None:
    """Note in a message when it was sent, so that a queue tells how old its messages are."""
    headers[SENT_AT] = time.time()


before_task_publish.connect(_note_when, weak=False)
setup_logging.connect(_log_by_structlog, weak=False)
worker_shutting_down.connect(_stop_in_time, weak=False)
configure(Settings())
