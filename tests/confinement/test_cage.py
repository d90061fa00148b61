"""A confined process can do what its work needs, and nothing else."""

import resource
import signal
from pathlib import Path

import pytest

from keyhole.confinement import cage
from keyhole.confinement.cage import UnconfinedError, confine, why_unconfined
from keyhole.confinement.limits import limit_cpu
from keyhole.confinement.needs import Needs
from tests.confinement.confined import answer, run, with_landlock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "writable").mkdir()
    (tmp_path / "home" / ".aws" / "sso" / "cache").mkdir(parents=True)
    (tmp_path / "home" / "secret").write_text("secret")
    return tmp_path


@with_landlock
class TestFiles:
    def test_it_is_refused_what_it_does_not_need(self, folder: Path) -> None:
        code = """
print(json.dumps({
    "shadow": refused(lambda: open("/etc/shadow")),
    "home": refused(lambda: os.listdir(Path.home())),
    "secret": refused(lambda: (Path.home() / "secret").read_text()),
    "environment of others": refused(lambda: open("/proc/1/environ")),
    "write": refused(lambda: (folder / "new").write_text("x")),
    "remove": refused(lambda: (Path.home() / "secret").unlink()),
    "link": refused(lambda: os.symlink("/etc/shadow", folder / "writable" / "link")),
    "program": refused(lambda: subprocess.run(["/bin/sh", "-c", "true"])),
    "signal": refused(lambda: os.kill(os.getppid(), 0)),
}))
"""
        found = answer(code, folder)

        assert set(found.values()) == {"PermissionError"}, found

    def test_it_has_what_its_work_takes(self, folder: Path) -> None:
        code = """
import socket, ssl, zoneinfo, encodings.idna
import boto3
writable = folder / "writable"
(writable / "new").write_text("x")
(writable / "new").rename(writable / "renamed")
(writable / "renamed").unlink()
(Path.home() / ".aws" / "sso" / "cache" / "token.json").write_text("renewed")
Path(os.devnull).write_text("x")
ssl.create_default_context()
code = "import keyhole.inspectors.formats.raw; print(7)"
child = subprocess.run([sys.executable, "-c", code], capture_output=True)
print(json.dumps({
    "zone": zoneinfo.ZoneInfo("Europe/Berlin").key,
    "name": socket.getaddrinfo("localhost", 80)[0][4][1],
    "service": boto3.client("s3", region_name="eu-central-1").meta.service_model.service_name,
    "another process lives": Path(f"/proc/{os.getppid()}/stat").read_text() != "",
    "python": child.stdout.decode().strip() or child.stderr.decode(),
    "hosts": Path("/etc/hosts").read_text() != "",
}))
"""
        assert answer(code, folder) == {
            "zone": "Europe/Berlin",
            "name": 80,
            "service": "s3",
            "another process lives": True,
            "python": "7",
            "hosts": True,
        }

    @pytest.mark.slow
    def test_its_threads_are_confined_too(self, folder: Path) -> None:
        code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(1) as pool:
    print(json.dumps(pool.submit(refused, lambda: open("/etc/shadow")).result()))
"""
        assert answer(code, folder) == "PermissionError"

    @pytest.mark.slow
    def test_a_mounted_token_may_rotate(self, folder: Path) -> None:
        """Kubernetes mounts a folder of symbolic links, and replaces the folder to which they lead."""
        mount = folder / "serviceaccount"
        (mount / "first").mkdir(parents=True)
        (mount / "first" / "token").write_text("old")
        (mount / "..data").symlink_to("first")
        (mount / "token").symlink_to("..data/token")
        rotate = f"cd {mount}; mkdir second; printf new > second/token; ln -s second tmp; mv -T tmp ..data"
        code = """
from botocore.utils import FileWebIdentityTokenLoader
load = FileWebIdentityTokenLoader(os.environ["AWS_WEB_IDENTITY_TOKEN_FILE"])
before = load()
later()
print(json.dumps([before, load(), str(allowed.replaced())]))
"""
        token = str(mount / "token")

        assert answer(code, folder, rotate, AWS_WEB_IDENTITY_TOKEN_FILE=token) == ["old", "new", "None"]

    @pytest.mark.slow
    def test_a_file_of_credentials_may_be_replaced(self, folder: Path) -> None:
        credentials = folder / "home" / ".aws" / "credentials"
        credentials.write_text("[default]\naws_access_key_id = old\naws_secret_access_key = old\n")
        replace = f"cd {credentials.parent}; sed s/old/new/ credentials > tmp; mv tmp credentials"
        code = """
import botocore.session
later()
found = botocore.session.Session().get_credentials()
print(json.dumps([found.access_key, str(allowed.replaced())]))
"""
        assert answer(code, folder, replace) == ["new", "None"]

    @pytest.mark.slow
    def test_it_can_tell_that_a_file_was_replaced_that_it_may_not_read(self, folder: Path) -> None:
        """If the folder contains other files, only the file itself is allowed."""
        bundle = folder / "home" / "bundle.pem"
        bundle.write_text("old")
        replace = f"cd {bundle.parent}; printf new > tmp; mv tmp bundle.pem"
        code = """
bundle = os.environ["AWS_CA_BUNDLE"]
before = (Path(bundle).read_text(), str(allowed.replaced()))
later()
print(json.dumps([*before, refused(lambda: open(bundle)), str(allowed.replaced())]))
"""
        found = answer(code, folder, replace, AWS_CA_BUNDLE=str(bundle))

        assert found == ["old", "None", "PermissionError", str(bundle)]


class TestLimits:
    @with_landlock
    def test_it_runs_out_of_memory_alone(self, folder: Path) -> None:
        code = """
held = []
try:
    while True:
        held.append(bytearray(1 << 24))
except MemoryError:
    print(json.dumps(len(held) << 24))
"""
        assert 1 << 28 < answer(code, folder) < 5 << 28

    @pytest.mark.slow
    @with_landlock
    def test_it_has_threads_for_its_scans(self, folder: Path) -> None:
        code = """
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
barrier = Barrier(16)
def take(number):
    held = bytearray(8 << 20)
    barrier.wait()
    return len(held)
with ThreadPoolExecutor(16) as pool:
    print(json.dumps(sum(pool.map(take, range(16))) >> 20))
"""
        assert answer(code, folder) == 128

    @pytest.mark.slow
    @with_landlock
    def test_it_ends_when_it_uses_more_cpu_than_it_may(self, folder: Path) -> None:
        code = """
from keyhole.confinement.limits import limit_cpu
limit_cpu(0)
while True:
    pass
"""
        assert run(code, folder).returncode == -signal.SIGXCPU

    @with_landlock
    def test_it_leaves_no_core_and_gains_no_privileges(self, folder: Path) -> None:
        code = """
import resource
status = Path("/proc/self/status").read_text()
print(json.dumps([resource.getrlimit(resource.RLIMIT_CORE), "NoNewPrivs:\\t1" in status]))
"""
        assert answer(code, folder) == [[0, 0], True]


class TestWhereFilesCannotBeConfined:
    @pytest.fixture(autouse=True)
    def _an_old_kernel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cage.landlock, "abi", lambda: 0)

    def test_it_is_said_why(self) -> None:
        assert "no Landlock" in str(why_unconfined(Needs((), None, ())))
        assert "credential_process" in str(why_unconfined(Needs((), "aws-vault", ())))

    def test_and_refused_where_that_is_required(self) -> None:
        with pytest.raises(UnconfinedError, match="no Landlock"):
            confine(Needs((), None, ()), threads=1, memory=0, required=True)


def test_after_a_task_the_cpu_time_is_not_limited() -> None:
    """Otherwise the threads that send events would end an idle process after some days."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit_cpu(1_000_000)
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] != hard

    limit_cpu(None)

    assert resource.getrlimit(resource.RLIMIT_CPU) == (hard, hard)
