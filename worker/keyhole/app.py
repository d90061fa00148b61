"""The Celery application: its broker, its queues and its settings for the delivery of messages.

A worker acknowledges a message only after the work is done, so the broker delivers the message again if the
worker dies. The ledger (`keyhole.jobs.ledger`) is a list of the work in Redis. The ledger tells workers which
work is finished. If the broker loses a message, Keyhole uses the ledger to repeat the work of the message. A
comment beside each setting gives its reason.
"""

import logging
import time
from typing import Any

from celery import Celery
from celery.signals import before_task_publish, setup_logging, worker_shutting_down
from kombu.entity import Exchange, Queue
from kombu.transport import TRANSPORT_ALIASES

from keyhole import logs
from keyhole.fleet.broker import is_amqp, is_redis, kombu_url, tls, transport_options
from keyhole.fleet.shutdown import stop_in_time
from keyhole.fleet.signing import use_keys
from keyhole.jobs.message_age import SENT_AT
from keyhole.jobs.queues import JOBS, QUEUES
from keyhole.settings import Settings


def configuration(settings: Settings) -> dict[str, Any]:  # Celery's settings have many types
    """Return Celery's settings that correspond to Keyhole's settings."""
    url = settings.broker_url or settings.redis_url
    limits = settings.limits
    return {
        "broker_url": kombu_url(url) if url else None,
        "broker_transport_options": transport_options(url, limits.visibility),
        "broker_use_ssl": tls(url),
        # Seconds between heartbeats (AMQP only). If a host misses two heartbeats, the broker delivers the
        # host's unacknowledged messages again.
        "broker_heartbeat": 30,
        # If the broker is unreachable, workers try to connect without a limit, both at the start and later.
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        "broker_channel_error_retry": True,
        # If the broker is unreachable, publishing fails within seconds. The caller need not try again: the
        # ledger contains the job, and the sweep publishes it later.
        "task_publish_retry": False,
        # Keyhole itself stores the reports. Celery's results would cost Redis five more commands per task.
        "task_ignore_result": True,
        "result_backend": None,
        # An unknown queue is an error, so that no job waits forever in a misspelt queue.
        "task_queues": [Queue(name, Exchange(name), routing_key=name, durable=True) for name in QUEUES],
        "task_default_queue": JOBS,
        "task_default_exchange": JOBS,
        "task_default_routing_key": JOBS,
        "task_create_missing_queues": False,
        # Accept only JSON, because a message in another format, such as pickle, can make the worker run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        # A worker acknowledges a message after the work is done, so that the broker delivers the message of a
        # dead worker again.
        "task_acks_late": True,
        # If a pool process dies, Celery publishes its task again, a limited number of times. With the setting
        # `task_reject_on_worker_lost` instead, a job that kills its worker would be repeated forever.
        "task_retry_on_worker_lost": True,
        "task_soft_time_limit": limits.soft,
        "task_time_limit": limits.hard,
        # A worker takes a message only when one of its processes is free, so that no message waits in its
        # memory.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": is_redis(url),
        # By default, a worker's queue for remote commands (such as the doctor's ping) is exclusive. After a
        # lost connection, RabbitMQ refuses the worker access to its exclusive queue until RabbitMQ has
        # noticed the loss. Until then the worker would get no work. The queue is therefore not exclusive. It
        # is durable, because RabbitMQ 4.3 refuses queues that are neither exclusive nor durable. It expires
        # if it is unused.
        "control_queue_exclusive": not is_amqp(url),
        "control_queue_durable": is_amqp(url),
        # A worker that loses its connection finishes its tasks. The broker delivers the messages of these
        # tasks to other workers. The ledger shows these workers that a worker has begun or finished the work,
        # so they do not scan the objects again.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # In KiB. If a pool process uses more memory than this, Celery replaces it after its current task.
        "worker_max_memory_per_child": 512 * 1024,
        # This pool replaces processes that are killed while the worker starts.
        "worker_pool": "keyhole.fleet.prefork:TaskPool",
        # This consumer stores messages that no task can process as dead letters.
        "worker_consumer": "keyhole.fleet.consumer:Consumer",
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "enable_utc": True,
        "timezone": "UTC",
    }


# Keyhole's transports. The transport for Redis handles list items that are not messages. The transport for
# RabbitMQ reports why RabbitMQ blocks a connection. The transport for SQS refuses pages of other servers.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "keyhole.fleet.redis_transport:Transport"))
TRANSPORT_ALIASES.update(
    amqp="keyhole.fleet.amqp_transport:Transport",
    amqps="keyhole.fleet.amqp_transport:SSLTransport",
    sqs="keyhole.fleet.sqs_transport:Transport",
)

# Celery imports the modules in `include` when a worker starts, and the module in `control` when it needs this
# module.
app = Celery(
    "keyhole",
    include=["keyhole.tasks", "keyhole.fleet.pool_process"],
    control="keyhole.fleet.control_queues:Control",
)


def configure(settings: Settings) -> Celery:
    """Configure the application with the given settings instead of the settings from the environment."""
    use_keys(settings.signing_key_file)
    app.conf.update(configuration(settings))
    # If this process has published messages before, it may have open connections to the previously configured
    # broker. Forget these connections.
    app._after_fork()  # noqa: SLF001 - Celery has no other way to forget its pools, and keep the application
    return app


def _log_by_structlog(loglevel: int = logging.INFO, **_: object) -> None:
    logs.configure(logging.getLevelName(loglevel).lower())


def _note_when(headers: dict[str, Any], **_: object) -> None:
    """Add the current time to a message's headers, so that `keyhole doctor` can report the message's age."""
    headers[SENT_AT] = time.time()


before_task_publish.connect(_note_when, weak=False)
setup_logging.connect(_log_by_structlog, weak=False)
worker_shutting_down.connect(stop_in_time, weak=False)
configure(Settings())
