"""The Celery application: broker, queues, and what a worker may lose, repeat or wait for.

Every setting has its reason beside it. The ones about delivery belong together: a message is acknowledged
when its work is done, so it is delivered again when a worker dies; the ledger (`keyhole.jobs.ledger`)
recognises what was done, and keeps what a broker loses.
"""

import logging
import time
from typing import Any, Final

from celery import Celery
from celery.signals import before_task_publish, setup_logging, worker_shutting_down
from kombu.entity import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from keyhole import logs
from keyhole.fleet.broker import is_amqp, is_redis, kombu_url, tls, transport_options
from keyhole.fleet.shutdown import stop_in_time
from keyhole.fleet.signing import use_keys
from keyhole.jobs.queues import JOBS, QUEUES
from keyhole.settings import Settings

#: A message's header: when it was sent, in seconds since 1970.
SENT_AT: Final = "keyhole_sent_at"


def configuration(settings: Settings) -> dict[str, Any]:  # Celery's settings are of every type
    """Celery's settings for ours."""
    url = settings.broker_url or settings.redis_url
    limits = settings.limits
    return {
        "broker_url": kombu_url(url) if url else None,
        "broker_transport_options": transport_options(url, limits.visibility),
        "broker_use_ssl": tls(url),
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
        "worker_disable_prefetch": is_redis(url),
        # A worker's queue for commands (the doctor's ping) is exclusive by default. By RabbitMQ a worker that
        # connects again is refused it, and gets no work, until the old connection is known to be gone. (It
        # expires when it is unused. RabbitMQ 4.3 takes none that is neither exclusive nor durable.)
        "control_queue_exclusive": not is_amqp(url),
        "control_queue_durable": is_amqp(url),
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


#: What lies in Redis's lists need not be messages, and RabbitMQ says why it takes none; these keep both.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "keyhole.fleet.redis_transport:Transport"))
TRANSPORT_ALIASES.update(
    amqp="keyhole.fleet.amqp_transport:Transport", amqps="keyhole.fleet.amqp_transport:SSLTransport"
)

# Only workers import these.
app = Celery(
    "keyhole",
    include=["keyhole.tasks", "keyhole.fleet.pool_process"],
    control="keyhole.fleet.control_queues:Control",
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


def _note_when(headers: dict[str, Any], **_: object) -> None:
    """Note in a message when it was sent, so that a queue tells how old its messages are."""
    headers[SENT_AT] = time.time()


before_task_publish.connect(_note_when, weak=False)
setup_logging.connect(_log_by_structlog, weak=False)
worker_shutting_down.connect(stop_in_time, weak=False)
configure(Settings())
