"""`keyhole dashboard`: where it listens, what it needs, and how it ends."""

import http.client
import re
import signal
import socket
import subprocess
import sys

import pytest

from tests.cli.conftest import Keyhole
from tests.e2e.commands import PATIENCE
from tests.ports import free_port


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "keyhole.example"])  # noqa: S104 - refused
def test_others_reach_it_only_with_a_token(keyhole: Keyhole, redis_url: str, host: str) -> None:
    printed = keyhole("dashboard", "--host", host, KEYHOLE_REDIS_URL=redis_url)

    assert printed.code == 2
    assert "set KEYHOLE_DASHBOARD_TOKEN to a secret" in printed.error


def test_a_short_token_is_refused_and_not_printed(keyhole: Keyhole, redis_url: str) -> None:
    printed = keyhole("dashboard", KEYHOLE_REDIS_URL=redis_url, KEYHOLE_DASHBOARD_TOKEN="short-secret")

    assert printed.code == 2
    assert "KEYHOLE_DASHBOARD_TOKEN" in printed.error
    assert "short-secret" not in printed.error


def test_without_its_packages_it_says_what_to_install(
    keyhole: Keyhole, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    printed = keyhole("dashboard", KEYHOLE_REDIS_URL=redis_url)

    assert printed.code == 2
    assert "run `pip install -c deploy/constraints.txt '.[dashboard]'` in a clone" in printed.error


def test_it_does_not_start_without_redis(keyhole: Keyhole) -> None:
    printed = keyhole(
        "dashboard", "--port", "0", KEYHOLE_REDIS_URL=f"redis://:secret@127.0.0.1:{free_port()}/0"
    )

    assert printed.code == 3
    assert "127.0.0.1" in printed.err
    assert "the dashboard is at" not in printed.err
    assert "secret" not in printed.err


def test_an_address_that_is_in_use_is_named(env: dict[str, str], redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "keyhole", "dashboard", "--port", port],
            env=env | {"KEYHOLE_REDIS_URL": redis_url},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert done.returncode == 3
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_although_a_page_is_open(
    env: dict[str, str], redis_url: str, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "keyhole", "dashboard", "--port", "0"],
        env=env | {"KEYHOLE_REDIS_URL": redis_url},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while (found := re.search(r"http://127\.0\.0\.1:(\d+)/", process.stderr.readline())) is None:
            assert process.poll() is None
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=PATIENCE)
        connection.request("GET", "/live")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read(6) == b"retry:"

        process.send_signal(number)

        assert process.wait(PATIENCE) == 0
        answer.close()
        connection.close()
