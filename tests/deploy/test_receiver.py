"""The receiver of webhooks that deploy/try.py starts, as a process."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from keyhole.results.sinks.signature import parse_secrets, signature_headers
from tests.e2e.commands import PATIENCE, until
from tests.ports import free_port

RECEIVER = Path(__file__).parents[2] / "deploy" / "trial" / "receiver.py"
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZXg="
BODY = json.dumps({"subject": "s3://bucket/key", "data": {"status": "unsafe"}}).encode()


@pytest.fixture
def receiver() -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    port = free_port()
    command = [sys.executable, str(RECEIVER), "127.0.0.1", str(port)]
    with subprocess.Popen(command, env={"KEYHOLE_WEBHOOK_SECRET": SECRET}, stdout=subprocess.PIPE) as process:
        until(lambda: _answers(port))
        yield port, process
        process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("secret", "age", "status"), [(SECRET, 0, 204), (OTHER, 0, 401), (SECRET, 3600, 401)], ids=str
)
def test_it_accepts_what_keyhole_signed_now_and_nothing_else(
    receiver: tuple[int, "subprocess.Popen[bytes]"], secret: str, age: int, status: int
) -> None:
    port, process = receiver
    headers = signature_headers(parse_secrets(secret), "id", int(time.time()) - age, BODY)
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("POST", "/", BODY, headers)
    answered = connection.getresponse().status
    connection.close()
    assert answered == status
    assert process.stdout is not None
    printed = json.loads(process.stdout.readline())
    assert printed == {"signed": status == 204, "subject": "s3://bucket/key", "status": "unsafe"}
