"""The names of worker processes, and whether the process of a name is still alive.

A name is `host/pid-namespace:pid:start`, so no two processes ever share one. On the same host the kernel
knows whether a process is alive. A process on another host has a marker in Redis, which it renews while it
is busy and which expires `MARKER_SECONDS` after its last heartbeat.

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

#: Six heartbeats.
MARKER_SECONDS: Final = 30


class Liveness:
    """This process's name, and whether others are alive. Create it after the fork."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    @cached_property
    def name(self) -> str:
        """The name of this process."""
        return f"{_place()}:{os.getpid()}:{start_of(os.getpid())}"

    def beat(self, *, busy_seconds: float) -> None:
        """Renew the marker of this process, with the age of its oldest lease."""
        self._client.set(keys.alive(self.name), f"{busy_seconds:.0f}", ex=MARKER_SECONDS)

    def is_alive(self, name: str) -> bool:
        """Whether the process of that name is alive, as far as this host can tell."""
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
