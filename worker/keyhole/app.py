"""The Celery application: its broker, its queues and its settings for delivery.

Every setting has its reason beside it. The settings for delivery belong together: a message is acknowledged
when its work is done, so it is delivered again if a worker dies. The ledger (`keyhole.jobs.ledger`)
recognises finished work, and keeps the work of messages that a broker loses.
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
        # The broker delivers the messages of a host that vanished again after two missing ones (AMQP only).
        "broker_heartbeat": 30,
        # Wait for a broker that is away, both at the start and later.
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,
        # Publishing fails soon if the broker is away. The ledger has the job, and the caller decides.
        "task_publish_retry": False,
        # The report is the result. Celery's own results would cost Redis five more commands per task.
        "task_ignore_result": True,
        "result_backend": None,
        # Unknown queues are an error, so that jobs do not wait forever in a misspelt queue.
        "task_queues": [Queue(name, Exchange(name), routing_key=name, durable=True) for name in QUEUES],
        "task_default_queue": JOBS,
        "task_default_exchange": JOBS,
        "task_default_routing_key": JOBS,
        "task_create_missing_queues": False,
        # JSON only: a message cannot carry code.
        "accept_content": ["json"],
        "task_serializer": "json",
        # Acknowledge after the work, so that the message of a dead worker is delivered again …
        "task_acks_late": True,
        # … but only a few times: rejecting would repeat a job that kills its worker forever.
        "task_retry_on_worker_lost": True,
        "task_soft_time_limit": limits.soft,
        "task_time_limit": limits.hard,
        # One message at a time and none prefetched, so that no message waits in the memory of a busy worker.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": is_redis(url),
        # A worker's queue for commands (the doctor's ping) is exclusive by default. After a lost connection,
        # RabbitMQ refuses it until the old connection is known to be gone, and the worker gets no work. (The
        # queue expires if it is unused. RabbitMQ 4.3 refuses queues that are neither exclusive nor durable.)
        "control_queue_exclusive": not is_amqp(url),
        "control_queue_durable": is_amqp(url),
        # A worker that loses its connection finishes its tasks. Their messages are delivered again, and the
        # ledger tells other workers that the entries are leased or complete.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A process that uses more memory is replaced after its task (KiB).
        "worker_max_memory_per_child": 512 * 1024,
        # This consumer makes dead letters of messages that a worker cannot work on.
        "worker_consumer": "keyhole.fleet.consumer:Consumer",
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


#: Transports that handle items in Redis lists that are not messages, and that know why RabbitMQ blocks.
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
    """Configure the application by settings other than those of the environment."""
    use_keys(settings.signing_key_file)
    app.conf.update(configuration(settings))
    # Earlier publishing may have left connections to another broker.
    app._after_fork()  # noqa: SLF001 - Celery has no other way to forget its pools, and keep the application
    return app


def _log_by_structlog(loglevel: int = logging.INFO, **_: object) -> None:
    logs.configure(logging.getLevelName(loglevel).lower())


def _note_when(headers: dict[str, Any], **_: object) -> None:
    """Add the time to a message, so that the age of messages in a queue can be read."""
    headers[SENT_AT] = time.time()


before_task_publish.connect(_note_when, weak=False)
setup_logging.connect(_log_by_structlog, weak=False)
worker_shutting_down.connect(stop_in_time, weak=False)
configure(Settings())
