"""Runs Lua scripts, and combines the scripts of several threads into one round trip to Redis.

A *step* is one call of a script. A thread calls `RoundTrips.run` with one or more *chains* of steps. Redis
runs each chain as one script, so no other command runs between its steps. If a step fails, the later steps of
its chain do not run. The effects of the earlier steps remain, because Redis does not roll back a script.
Other chains are not affected.

While a round trip is running, the chains of all other threads wait. When it ends, one of these threads sends
all waiting chains in the next round trip. So no thread waits for a timer, and the busier the process is, the
more chains share a round trip.
"""

import threading
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from typing import Any, Final, NamedTuple

import redis


class Step(NamedTuple):
    """One call of a Lua script. It must be safe to repeat, because the client repeats failed commands."""

    script: str
    keys: Sequence[str]
    args: Sequence[str | bytes | float]


#: Steps that run one after the other, as one script.
Chain = Sequence[Step]


class _Script(NamedTuple):
    """A script's text, and the SHA-1 digest of the text, which Redis uses as the script's name."""

    text: str
    name: str


class _Request:
    """The chains of one thread.

    After the chains have been sent, `answers` has a list of answers, or an error, for each chain.
    """

    def __init__(self, chains: Sequence[Chain]) -> None:
        self.chains = chains
        self.answers: list[Any] = []  # the types depend on the scripts
        self.sent = False


class RoundTrips:
    """Runs chains of steps. Threads share this object.

    The client comes from `keyhole.store.connection.connect`.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._waiting: list[_Request] = []
        # The thread that holds this lock is sending a round trip.
        self._sending = threading.Lock()
        self._loaded: set[str] = set()

    def run(self, *chains: Chain) -> list[Any]:  # the types depend on the scripts
        """Run chains, and return for each chain the list of its steps' answers, or the error that stopped it.

        If the round trip fails, its error is returned for every chain. This includes errors such as
        `MemoryError`: they can occur in another thread, because one thread sends the chains of all threads.
        """
        request = _Request(chains)
        with self._lock:
            self._waiting.append(request)
        with self._sending:
            if not request.sent:
                with self._lock:
                    taken, self._waiting = self._waiting, []
                self._send(taken)
        return request.answers

    def _send(self, requests: Sequence[_Request]) -> None:
        chains = [chain for request in requests for chain in request.chains]
        answers: list[Any]
        try:
            answers = self._execute(chains)
        except BaseException as error:  # noqa: BLE001 - every waiting thread must get it
            answers = [error] * len(chains)
        for request in requests:
            request.answers, answers = answers[: len(request.chains)], answers[len(request.chains) :]
            request.sent = True

    def _execute(self, chains: Sequence[Chain]) -> list[Any]:
        answers = self._evaluate(chains)
        # A server that was restarted has forgotten the scripts, and has not run these chains. So load the
        # scripts and send these chains again.
        no_script = redis.exceptions.NoScriptError
        forgotten = [number for number, answer in enumerate(answers) if isinstance(answer, no_script)]
        if forgotten:
            self._loaded.clear()
            again = self._evaluate([chains[number] for number in forgotten])
            for number, answer in zip(forgotten, again, strict=True):
                answers[number] = answer
        return answers

    def _evaluate(self, chains: Sequence[Chain]) -> list[Any]:
        scripts = [
            _script(tuple((step.script, len(step.keys), len(step.args)) for step in chain))
            for chain in chains
        ]
        unknown = {script.name: script.text for script in scripts if script.name not in self._loaded}
        with self._client.pipeline(transaction=False) as pipe:
            for text in unknown.values():
                pipe.script_load(text)
            for script, chain in zip(scripts, chains, strict=True):
                keys = [key for step in chain for key in step.keys]
                pipe.evalsha(script.name, len(keys), *keys, *(arg for step in chain for arg in step.args))
            answers: list[Any] = pipe.execute(raise_on_error=False)
        loads, answers = answers[: len(unknown)], answers[len(unknown) :]
        for load in loads:
            if isinstance(load, Exception):
                raise load
        self._loaded |= unknown.keys()
        return answers


#: Runs the scripts in `steps` one after the other, each with its own KEYS and ARGV. Returns their answers.
_RUN: Final = """
local key, arg = 0, 0
local answers = {}
for i, step in ipairs(steps) do
    local keys = {unpack(KEYS, key + 1, key + step.keys)}
    local args = {unpack(ARGV, arg + 1, arg + step.args)}
    key, arg = key + #keys, arg + #args
    answers[i] = step.run(keys, args) or false
end
return answers
"""


@cache
def _script(steps: tuple[tuple[str, int, int], ...]) -> _Script:
    """Return the script that runs a chain.

    `steps` contains the script of each step, the number of its KEYS, and the number of its ARGV.
    """
    step = "{{keys = {1}, args = {2}, run = function(KEYS, ARGV)\n{0}\nend}}"
    table = ",\n".join(step.format(*each) for each in steps)
    text = f"local steps = {{\n{table}\n}}\n{_RUN}"
    return _Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
