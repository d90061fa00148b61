"""Which worker processes live: on the same host by the kernel, on other hosts by a marker."""

import os
import subprocess
import sys
from pathlib import Path

import redis

from keyhole.jobs.liveness import MARKER_SECONDS, Liveness
from keyhole.store import keys


def stat(pid: int) -> list[str]:
    """The kernel's line about a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def test_a_process_is_alive_until_it_ends(valkey: redis.Redis) -> None:
    liveness = Liveness(valkey)
    place = liveness.name.partition(":")[0]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        name = f"{place}:{process.pid}:{stat(process.pid)[19]}"
        assert liveness.is_alive(liveness.name)
        assert liveness.is_alive(name)
        process.kill()
        # The parent has not read the exit code yet, so the process is a zombie.
        while stat(process.pid)[0] != "Z":
            pass
        assert not liveness.is_alive(name)
    assert not liveness.is_alive(name)


def test_a_name_tells_this_process(valkey: redis.Redis) -> None:
    assert f":{os.getpid()}:" in Liveness(valkey).name


def test_another_process_of_the_same_number_is_another(valkey: redis.Redis) -> None:
    liveness = Liveness(valkey)

    assert not liveness.is_alive(liveness.name + "1")


def test_of_another_host_its_marker_tells(valkey: redis.Redis) -> None:
    liveness = Liveness(valkey)
    assert not liveness.is_alive("elsewhere/1:7:100")

    valkey.set(keys.alive("elsewhere/1:7:100"), "1")

    assert liveness.is_alive("elsewhere/1:7:100")


def test_a_marker_expires_after_the_last_beat(valkey: redis.Redis) -> None:
    liveness = Liveness(valkey)

    liveness.beat(busy_seconds=12.3)

    assert valkey.get(keys.alive(liveness.name)) == b"12"
    assert MARKER_SECONDS - 5 < valkey.ttl(keys.alive(liveness.name)) <= MARKER_SECONDS


def test_what_is_no_name_is_not_alive(valkey: redis.Redis) -> None:
    liveness = Liveness(valkey)

    assert not any(map(liveness.is_alive, ["", ":", "::", "a:b:c", liveness.name + ":"]))
