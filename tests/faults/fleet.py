"""Workers and their Valkey. As a service manager does, the fleet restarts what a storm kills."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from threading import Event, Lock, Thread

from tests.e2e import commands
from tests.faults.storms import Strike
from tests.faults.valkey import Valkey
from tests.servers.rabbitmq import RabbitMQ

#: Seconds between two checks of the workers.
LOOK_SECONDS = 0.5
#: Seconds to wait before restarting a worker that ended without a strike. It can fail again for the same
#: reason.
RESTART_SECONDS = 2.0
#: The number of lines of its log that show why a worker ended.
LAST_LINES = 5
#: How long a process is frozen, in seconds: longer than a heartbeat interval, and sometimes longer than the
#: time after which a silent worker is considered lost.
FROZEN_SECONDS = (2.0, 40.0)
#: How long Valkey is frozen, and how long it is stopped, in seconds.
FROZEN_VALKEY_SECONDS, AWAY_SECONDS = (2.0, 20.0), (0.0, 3.0)


class Fleet:
    """Some workers. Until `close`, the fleet restarts each worker that ends."""

    def __init__(
        self,
        env: Mapping[str, str],
        folder: Path,
        valkey: Valkey,
        rabbitmq: RabbitMQ | None,
        *,
        workers: int,
        processes: int,
    ) -> None:
        self._env = env
        self._folder = folder
        self._valkey = valkey
        self._rabbitmq = rabbitmq
        # RabbitMQ ends with the thread that starts it, and a strike's thread ends with its storm.
        self._starter = ThreadPoolExecutor(1)
        self._processes = processes
        self._lock = Lock()
        self._valkey_strikes = Lock()
        self._workers: list[subprocess.Popen[bytes] | None] = [None] * workers
        self._closed = Event()
        self._expected: set[int] = set()
        # The length of each log when the worker was started that writes it now.
        self._log_lengths = [0] * workers
        self._thread = Thread(target=self._look_after, daemon=True)
        #: Exit codes of workers that ended although no strike hit them.
        self.ended: Counter[int] = Counter()
        #: The last lines in the logs of these workers.
        self.last_words: list[str] = []

    @property
    def pids(self) -> list[int]:
        """The main processes of the running workers."""
        with self._lock:
            return [worker.pid for worker in self._workers if worker is not None and worker.poll() is None]

    @property
    def logs(self) -> Sequence[Path]:
        """The workers' output."""
        return sorted(self._folder.glob("worker-*.log"))

    def start(self) -> None:
        """Start all workers, and wait until they accept work."""
        for number in range(len(self._workers)):
            self._start(number)
        self._thread.start()
        commands.until(lambda: all(commands.READY in log.read_bytes() for log in self.logs))

    def close(self) -> None:
        """End all workers at once."""
        self._closed.set()
        self._starter.shutdown()
        if self._thread.is_alive():
            self._thread.join()
        for worker in self._workers:
            if worker is not None:
                _end(worker)

    def strike(self, strike: Strike, random: Random, over: Event) -> None:
        """Do one strike. A frozen process continues after some seconds, or at once if the storm ends."""
        match strike:
            case Strike.KILL_CHILD:
                self._send(signal.SIGKILL, self._some_child(random))
            case Strike.KILL_WORKER | Strike.STOP_WORKER:
                pid = self._some_worker(random)
                if pid is not None:
                    self._expected.add(pid)
                self._send(signal.SIGKILL if strike is Strike.KILL_WORKER else signal.SIGTERM, pid)
            case Strike.FREEZE_CHILD:
                self._freeze(self._some_child(random), random, over)
            case Strike.FREEZE_WORKER:
                self._freeze(self._some_worker(random), random, over)
            case Strike.KILL_VALKEY | Strike.CUT_AOF | Strike.FREEZE_VALKEY:
                with self._valkey_strikes:
                    self._strike_valkey(strike, random, over)

    def _strike_valkey(self, strike: Strike, random: Random, over: Event) -> None:
        valkey, rabbitmq = self._valkey, self._rabbitmq
        if strike is Strike.KILL_VALKEY:
            valkey.end()
            if rabbitmq is not None:
                rabbitmq.kill()
            over.wait(random.uniform(*AWAY_SECONDS))
            valkey.start()
            if rabbitmq is not None:
                self._starter.submit(rabbitmq.start).result()
        elif strike is Strike.CUT_AOF:
            valkey.crash(random)
        else:
            valkey.freeze()
            if rabbitmq is not None:
                rabbitmq.freeze()
            over.wait(random.uniform(*FROZEN_VALKEY_SECONDS))
            valkey.thaw()
            if rabbitmq is not None:
                rabbitmq.thaw()

    def _freeze(self, pid: int | None, random: Random, over: Event) -> None:
        self._send(signal.SIGSTOP, pid)
        over.wait(random.uniform(*FROZEN_SECONDS))
        self._send(signal.SIGCONT, pid)

    def _some_worker(self, random: Random) -> int | None:
        pids = self.pids
        return random.choice(pids) if pids else None

    def _some_child(self, random: Random) -> int | None:
        children = [child for pid in self.pids for child in commands.children(pid)]
        return random.choice(children) if children else None

    def _send(self, what: signal.Signals, pid: int | None) -> None:
        with suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, what)

    def _start(self, number: int) -> None:
        with self._log(number).open("ab") as log:
            self._log_lengths[number] = log.tell()
            self._workers[number] = subprocess.Popen(
                [*commands.KEYHOLE, "worker", "--until-stdin-ends", "--concurrency", str(self._processes)],
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number}.log"

    def _look_after(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            for number, worker in enumerate(self._workers):
                if worker is None or worker.poll() is None:
                    continue
                _end(worker)
                if worker.pid not in self._expected:
                    self.ended[worker.returncode] += 1
                    text = self._log(number).read_bytes()[self._log_lengths[number] :]
                    self.last_words.append(
                        b"\n".join(text.splitlines()[-LAST_LINES:]).decode(errors="replace")
                    )
                    self._closed.wait(RESTART_SECONDS)
                with self._lock:
                    self._start(number)


def _end(worker: "subprocess.Popen[bytes]") -> None:
    """End a worker and its children. They stay in the worker's session even if the worker was killed."""
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    if worker.stdin is not None:
        worker.stdin.close()


@contextmanager
def fleet(
    env: Mapping[str, str],
    folder: Path,
    valkey: Valkey,
    rabbitmq: RabbitMQ | None,
    *,
    workers: int,
    processes: int,
) -> Iterator[Fleet]:
    """Run workers that are ready to accept work."""
    running = Fleet(env, folder, valkey, rabbitmq, workers=workers, processes=processes)
    try:
        running.start()
        yield running
    finally:
        running.close()
