"""The example of an image service, as a real HTTP server: it stores only images that are safe."""

import http.client
import importlib.util
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from keyhole import Scanner
from keyhole.builders import qcow2
from tests.e2e.commands import PATIENCE, until
from tests.pages import ROOT
from tests.ports import free_port

SAFE = qcow2(1 << 30).to_bytes()
UNSAFE = qcow2(1 << 30, backing_file="/etc/shadow").to_bytes()
FILE = ROOT / "deploy" / "examples" / "image_service.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_service", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def port(example: ModuleType, tmp_path: Path) -> Iterator[int]:
    with Scanner(policy="openstack") as scanner, example.serve(tmp_path, 0, scanner) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, path, body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if answer.getheader(
        "Content-Type"
    ) == "application/json" else content


def stored(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_safe_image_is_stored_and_served(port: int, tmp_path: Path) -> None:
    assert ask(port, "PUT", "/images/a.qcow2", SAFE) == (201, {"format": "qcow2", "virtual_size": 1 << 30})
    assert ask(port, "GET", "/images/a.qcow2") == (200, SAFE)
    assert stored(tmp_path) == ["a.qcow2"]


def test_a_hostile_image_is_refused_with_its_findings_and_replaces_nothing(port: int, tmp_path: Path) -> None:
    ask(port, "PUT", "/images/a.qcow2", SAFE)

    code, answer = ask(port, "PUT", "/images/a.qcow2", UNSAFE)

    assert (code, answer["status"], answer["reasons"]) == (422, "unsafe", ["backing_file"])
    assert "/etc/shadow" in answer["findings"][0]
    assert (tmp_path / "a.qcow2").read_bytes() == SAFE
    assert stored(tmp_path) == ["a.qcow2"]


@pytest.mark.parametrize(
    "content", [b"", b"%PDF-1.7", SAFE[: len(SAFE) // 2]], ids=["empty", "pdf", "cut off"]
)
def test_what_is_no_whole_image_is_refused(port: int, tmp_path: Path, content: bytes) -> None:
    code, _ = ask(port, "PUT", "/images/a.qcow2", content)

    assert code == 422
    assert stored(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["/images/../a", "/images/.aside", "/images/", "/images/a/b", "/images/%00", "/"]
)
def test_a_name_that_is_no_name_is_refused(port: int, tmp_path: Path, name: str) -> None:
    assert ask(port, "PUT", name, SAFE)[0] == 404
    assert stored(tmp_path) == []


def test_an_upload_that_breaks_off_leaves_nothing(port: int, tmp_path: Path) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(b"PUT /images/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf")
        client.shutdown(socket.SHUT_WR)
        assert b" 400 " in client.recv(100)

    assert stored(tmp_path) == []


def test_an_upload_that_states_an_endless_length_is_refused(port: int, tmp_path: Path) -> None:
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(b"PUT /images/a HTTP/1.1\r\nHost: h\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
        assert b" 413 " in client.recv(100)

    assert stored(tmp_path) == []


def uploaded(port: int) -> int | None:
    """The code of the answer to an upload; `None` if the service is not there yet."""
    try:
        return ask(port, "PUT", "/images/a.qcow2", SAFE)[0]
    except (ConnectionRefusedError, http.client.RemoteDisconnected):
        return None


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    port = free_port()
    with subprocess.Popen([sys.executable, str(FILE), str(tmp_path), str(port)]) as process:
        try:
            assert until(lambda: uploaded(port)) == 201
        finally:
            process.terminate()
