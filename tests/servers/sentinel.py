"""A real Sentinel, from Debian, that monitors a Redis of the tests."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from tests.e2e.commands import until
from tests.ports import free_port
from tests.servers.redis_server import PASSWORD, REDIS, RedisServer


@contextmanager
def sentinel(primary: RedisServer) -> Iterator[int]:
    """Yield the port of a Sentinel that monitors a primary under the name `keyhole`."""
    port = free_port()
    configuration = primary.folder / f"sentinel-{port}.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor keyhole 127.0.0.1 {primary.port} 1\n"
        f"sentinel auth-pass keyhole {PASSWORD}\n"
    )
    with (primary.folder / "sentinel-output").open("ab") as output:
        process = subprocess.Popen(
            [REDIS, configuration, "--sentinel"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(lambda: _answers(port))
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with redis.Redis(port=port, protocol=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
