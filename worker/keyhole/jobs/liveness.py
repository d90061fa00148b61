"""Names of worker processes, and a check whether the process with a given name is still alive.

A name is `host/pid-namespace:pid:start`, where `start` is the time when the process started. So two processes
never have the same name, even if a process id is used again. For a process on the same host, this module asks
the kernel whether the process is alive. For a process on another host, it checks whether the process has a
marker in Redis. A busy process renews its marker with each heartbeat, and the marker expires `MARKER_SECONDS`
after the last heartbeat.

Source: proc(5), `/proc/self/ns/pid`.
"""

import os
import socket
from functools import cached_property
from pathlib import Path
from typing import Final

import redis

from keyhole.health import start_of
from keyhole.store import keys

#: Seconds after which a marker expires: six times the interval between heartbeats.
MARKER_SECONDS: Final = 30


class Liveness:
    """The name of this process, and a check whether other processes are alive.

    Create it after the fork, because the name contains the id of this process.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    @cached_property
    def name(self) -> str:
        """The name of this process."""
        return f"{_place()}:{os.getpid()}:{start_of(os.getpid())}"

    def beat(self, *, busy_seconds: float) -> None:
        """Renew the marker of this process. The marker's value is the age of the process's oldest lease."""
        self._client.set(keys.alive(self.name), f"{busy_seconds:.0f}", ex=MARKER_SECONDS)

    def is_alive(self, name: str) -> bool:
        """Whether the process with this name is alive.

        For another host, true means only that the process sent a heartbeat less than `MARKER_SECONDS` ago.
        """
        place, _, process = name.partition(":")
        if place != _place():
            return bool(self._client.exists(keys.alive(name)))
        pid, _, start = process.partition(":")
        return pid.isdigit() and start != "" and start_of(int(pid)) == start


def _place() -> str:
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:  # a system without /proc
        namespace = ""
    return f"{socket.gethostname()}/{namespace}"
