"""RabbitMQ as the reference configures it: with TLS, and a user with the fewest permissions."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import amqp
import pytest

from keyhole.builders import qcow2
from tests.deploy.certificates import make_certificates
from tests.e2e import commands
from tests.pages import block
from tests.servers.rabbitmq import SERVER, USER, RabbitMQ, rabbitmq_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

PASSWORD, VHOST, EVENTS = "geheim", "keyhole", "uploads"
SAFE = qcow2(1024**3).to_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A server with the reference's certificates and configuration. Tests can also connect without TLS."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder, "rabbit")
    with rabbitmq_server() as server:
        server.stop()
        ours = block("listeners.tcp = none")
        for shown, here in (
            ("listeners.tcp = none", f"listeners.tcp.1 = 127.0.0.1:{server.port}"),
            ("= 5671", f"= 127.0.0.1:{server.tls_port}"),
            ("/etc/rabbitmq", str(folder)),
        ):
            assert shown in ours
            ours = ours.replace(shown, here)
        file = server.folder / "rabbitmq.conf"
        kept = [
            line
            for line in file.read_text().splitlines()
            if not line.startswith(("listeners.", "ssl_options."))
        ]
        file.write_text(ours + "\n".join(kept) + "\n")
        server.ca = folder / "ca.pem"
        server.start()
        yield server


def add_user(server: RabbitMQ, folder: Path, *, vhost_options: str, readable: str) -> str:
    """Run the reference's commands, and return the URL of the user that they create."""
    control = f"{SERVER.parent}/rabbitmqctl --node {server._env['RABBITMQ_NODENAME']}"
    # All commands share standard input, and one of them reads a password from it.
    (folder / "rabbitmqctl").write_text(f'#!/bin/sh\necho {PASSWORD} | {control} "$@"\n')
    (folder / "rabbitmqctl").chmod(0o755)
    script = block("rabbitmqctl add_vhost").replace("add_vhost keyhole", f"add_vhost keyhole {vhost_options}")
    subprocess.run(
        ["bash", "-ec", script.removesuffix("'\n") + readable + "'"],
        env={**server._env, "PATH": f"{folder}:{server._env['PATH']}"},
        capture_output=True,
        check=True,
    )
    return f"amqps://keyhole:{PASSWORD}@localhost:{server.tls_port}/{VHOST}"


@pytest.mark.parametrize("vhost_options", ["", "--default-queue-type quorum"], ids=["classic", "quorum"])
def test_the_documented_user_can_do_all_that_keyhole_does(
    server: RabbitMQ, valkey_url: str, moto_url: str, s3: "S3Client", tmp_path: Path, vhost_options: str
) -> None:
    for what in ("vhost", "user"):
        if "keyhole" in server.control(f"list_{what}s").split():
            server.control(f"delete_{what}", "keyhole")
    url = add_user(server, tmp_path, vhost_options=vhost_options, readable=f"|^{EVENTS}$")
    server.control("set_permissions", "--vhost", VHOST, USER, ".*", ".*", ".*")
    bucket = f"test-{uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    for key in ("a.qcow2", "b.qcow2"):
        s3.put_object(Bucket=bucket, Key=key, Body=SAFE)
    env = commands.environment(
        KEYHOLE_BROKER_URL=url,
        SSL_CERT_FILE=server.ca,
        KEYHOLE_REDIS_URL=valkey_url,
        KEYHOLE_S3_ENDPOINT_URL=moto_url,
        KEYHOLE_EVENTS_URL=f"{url}/{EVENTS}",
        **commands.S3_CREDENTIALS,
    )
    with server.channel(VHOST) as channel:
        channel.queue_declare(EVENTS, durable=True, auto_delete=False)
        event = json.dumps({"bucket": bucket, "key": "b.qcow2"})
        channel.basic_publish(amqp.Message(event), routing_key=EVENTS)

    with commands.worker(env, tmp_path / "worker.log"):
        submitted = commands.keyhole("submit", "--wait", "--json", f"s3://{bucket}/a.qcow2", env=env)
        with commands.started("listen", env=env, log=tmp_path / "listen.log"):
            commands.until(lambda: commands.keyhole("show", f"s3://{bucket}/b.qcow2", env=env).stdout)
        audited = commands.keyhole("audit", "--full", f"s3://{bucket}/", env=env)
        told = commands.keyhole("doctor", "--json", env=env).stdout.splitlines()

    assert json.loads(submitted.stdout)["status"] == "safe"
    assert audited.returncode == 0, audited.stderr
    states = {(line["what"], line["state"]) for line in map(json.loads, told)}
    assert {("broker", "ok"), ("queue", "ok"), ("workers", "ok"), ("events", "ok")} <= states
    assert not {what for what, state in states if state == "bad"}
    assert "ACCESS_REFUSED" not in (tmp_path / "worker.log").read_text()
