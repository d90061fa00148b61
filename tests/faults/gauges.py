"""Memory, descriptors and connections of the workers and of Valkey, read when the system is at rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil
import redis

from tests.faults.fleet import Fleet
from tests.faults.valkey import Valkey


@dataclass(frozen=True)
class Reading:
    """Sums over all processes of the workers, and Valkey's connections. Memory is in MiB."""

    processes: frozenset[int]
    memory: float
    largest: float
    descriptors: int
    threads: int
    connections: int


class Gauges:
    """Takes readings, and compares the last readings with the first."""

    def __init__(self, workers: Fleet, valkey: Valkey) -> None:
        self._fleet = workers
        self._valkey = valkey
        self._readings: list[Reading] = []

    def read(self) -> None:
        """Take one reading. It omits processes that end meanwhile."""
        found: dict[int, tuple[float, int, int]] = {}
        for pid in self._fleet.pids:
            try:
                main = psutil.Process(pid)
                for process in (main, *main.children()):
                    with process.oneshot():
                        memory = process.memory_info().rss / 1024**2
                        found[process.pid] = memory, process.num_fds(), process.num_threads()
            except psutil.NoSuchProcess:
                continue
        memories, descriptors, threads = zip(*found.values(), strict=True) if found else ((0,), (0,), (0,))
        with redis.Redis.from_url(self._valkey.url) as client:
            connections = client.info("clients")["connected_clients"]
        self._readings.append(
            Reading(
                frozenset(found),
                round(sum(memories), 1),
                round(max(memories), 1),
                sum(descriptors),
                sum(threads),
                connections,
            )
        )

    def summary(self) -> Mapping[str, Any]:
        """Medians of the first and last quarter, the maximum, and the number of long-lived processes."""
        readings = self._readings
        if not readings:
            return {}
        quarter = max(1, len(readings) // 4)
        throughout = frozenset.intersection(*(reading.processes for reading in readings))
        return {
            "readings": len(readings),
            "processes": len(readings[-1].processes),
            "lived_throughout": len(throughout),
            **{
                name: {
                    "first": median(getattr(reading, name) for reading in readings[:quarter]),
                    "last": median(getattr(reading, name) for reading in readings[-quarter:]),
                    "most": max(getattr(reading, name) for reading in readings),
                }
                for name in ("memory", "largest", "descriptors", "threads", "connections")
            },
        }
