"""Every failure is one line that says what to do; `--debug` shows the rest, without secrets."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyhole.cli import COMMANDS, main
from keyhole.cli.failure import details, report_failure, without_secrets
from keyhole.inspectors.text import escaped
from tests.cli.conftest import Keyhole
from tests.e2e import commands


def one_line(keyhole: Keyhole, *arguments: str | Path, code: int, **settings: object) -> str:
    """Assert that a command ends with this code and one line, and return the line."""
    printed = keyhole(*arguments, **settings)
    assert (printed.code, printed.out) == (code, "")
    assert "Traceback" not in printed.err
    assert printed.error.isprintable()
    return printed.error


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("inspct",), "No such command 'inspct'. Did you mean 'inspect'? See `keyhole --help`."),
        (("xyzzy",), "No such command 'xyzzy'. See `keyhole --help`."),
        (
            ("s3://a/b",),
            "No such command 's3://a/b'. Did you mean `keyhole inspect TARGET`? See `keyhole --help`.",
        ),
        (("policy", "chek"), "No such command 'chek'. Did you mean 'check'? See `keyhole policy --help`."),
        (
            ("inspect", "--jsn", "x"),
            "No such option '--jsn'. Did you mean '--json'? See `keyhole inspect --help`.",
        ),
        (
            ("inspect", "--debug", "x"),
            "Write --debug before the command: keyhole --debug inspect. See `keyhole inspect --help`.",
        ),
        (("plan", "--objects", "1"), "Missing option '--workers'. See `keyhole plan --help`."),
        (("a\x1b[2J\nb",), "No such command 'a\\x1b[2J\\nb'. See `keyhole --help`."),
    ],
)
def test_wrong_usage_is_one_line_with_a_hint(keyhole: Keyhole, arguments: tuple[str, ...], line: str) -> None:
    assert one_line(keyhole, *arguments, code=2) == line


@pytest.mark.parametrize("command", ["inspect", "submit", "audit", "show", "verify"])
@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("s3:/bucket/key", "does not have two slashes; did you mean s3://bucket/key?"),
        ("s3//bucket/key", "has no colon; did you mean s3://bucket/key?"),
        ("S3://bucket/key", "is not in lower case; did you mean s3://bucket/key?"),
        ("s33://bucket/key", "has an unknown scheme; did you mean s3://bucket/key?"),
        ("gs://bucket/key", "and write s3://bucket/key"),
        ("file:///a", "write the path: /a"),
        ("nope://a", "has a scheme that Keyhole does not know; write s3://bucket/key"),
    ],
)
def test_a_uri_that_is_mistyped_is_guessed(
    keyhole: Keyhole, redis_url: str, command: str, target: str, hint: str
) -> None:
    assert hint in one_line(keyhole, command, target, code=2, KEYHOLE_REDIS_URL=redis_url)


@pytest.mark.parametrize("command", ["submit", "audit", "show", "verify"])
def test_only_inspect_takes_urls_of_web_servers(keyhole: Keyhole, redis_url: str, command: str) -> None:
    line = one_line(keyhole, command, "https://host/a?sig=secret", code=2, KEYHOLE_REDIS_URL=redis_url)

    assert "is not in S3; `keyhole inspect` scans objects on web servers" in line
    assert "secret" not in line


def test_a_file_may_be_named_like_a_uri(
    keyhole: Keyhole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gs:").mkdir()
    Path("gs:/x").write_bytes(b"")

    assert keyhole("inspect", "gs:/x").code == 1


class TestFilesOfUsers:
    """A pipe that nothing writes to, a device without end, a folder."""

    @pytest.fixture(params=["pipe", "/dev/zero", "folder", "long"])
    def path(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("keyhole.small_files.PIPE_SECONDS", 0.01)
        path = tmp_path / request.param
        match request.param:
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "long":
                with path.open("wb") as file:
                    file.truncate(1 << 40)
        return path

    def test_none_of_them_is_a_policy(self, keyhole: Keyhole, path: Path) -> None:
        assert "nor a readable file" in one_line(keyhole, "policy", "check", path, code=2)

    def test_none_of_them_has_prices(self, keyhole: Keyhole, path: Path) -> None:
        assert "cannot be read: " in one_line(keyhole, "audits", code=2, KEYHOLE_PRICES=path)

    def test_none_of_them_has_schedules(self, keyhole: Keyhole, path: Path) -> None:
        assert "KEYHOLE_SCHEDULES is set to" in one_line(keyhole, "audits", code=2, KEYHOLE_SCHEDULES=path)

    def test_none_of_them_has_keys(self, keyhole: Keyhole, path: Path) -> None:
        assert "SIGNING_KEY_FILE is set to" in one_line(
            keyhole, "audits", code=2, KEYHOLE_SIGNING_KEY_FILE=path
        )


def test_a_policy_comes_through_a_pipe(env: dict[str, str]) -> None:
    script = f"""{" ".join(commands.KEYHOLE)} policy check <(sleep 0.1; printf 'profile = "azure"\\n')"""

    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", ["--help", "docs formats", "inspect --json /etc/hostname"])
@pytest.mark.parametrize(
    ("redirection", "codes", "lines"),
    [
        (">/dev/full", {3}, ["Error: cannot write: No space left on device (`keyhole --debug` shows more)"]),
        (">&-", {0, 1}, []),
        ("2>&-", {0, 1}, []),
        ("<&-", {0, 1}, []),
    ],
)
def test_streams_that_are_full_or_closed(
    env: dict[str, str], arguments: str, redirection: str, codes: set[int], lines: list[str]
) -> None:
    script = f"{' '.join(commands.KEYHOLE)} {arguments} {redirection}"

    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False)

    assert done.returncode in codes
    assert done.stderr.splitlines() == lines


def test_an_error_that_cannot_be_printed_still_has_its_code(env: dict[str, str]) -> None:
    script = f"{' '.join(commands.KEYHOLE)} inspct 2>/dev/full"

    assert subprocess.run(["bash", "-c", script], env=env, check=False).returncode == 2


@pytest.mark.parametrize("columns", ["0", "00", "1", "-1", "x"])
def test_a_terminal_of_a_strange_width_gets_its_table(keyhole: Keyhole, columns: str) -> None:
    assert keyhole("plan", "--objects", "1e6", "--workers", "1", COLUMNS=columns).code == 0


class TestDebug:
    URL = "redis://user:c0rrect-horse@127.0.0.1:1/0"

    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("redis.retry.sleep", lambda _: None)

    def test_the_line_says_that_there_is_more(self, keyhole: Keyhole) -> None:
        line = one_line(keyhole, "results", code=3, KEYHOLE_REDIS_URL=self.URL)

        assert line.endswith(" (`keyhole --debug` shows more)")

    @pytest.mark.parametrize(
        ("option", "variable"), [(("--debug",), {}), ((), {"KEYHOLE_DEBUG": "1"})], ids=["option", "variable"]
    )
    def test_it_shows_the_traceback_without_secrets(
        self, keyhole: Keyhole, option: tuple[str, ...], variable: dict[str, str]
    ) -> None:
        printed = keyhole(*option, "results", KEYHOLE_REDIS_URL=self.URL, **variable)

        line, *rest = printed.err.splitlines()
        assert printed.code == 3
        assert line.startswith("Error: Redis does not answer")
        assert "Traceback (most recent call last):" in rest
        assert "c0rrect-horse" not in printed.err

    def test_a_bug_is_one_line_that_asks_for_a_report(
        self, keyhole: Keyhole, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_down(_: object) -> str:
            raise KeyError("x\ny")

        monkeypatch.setattr("keyhole.cli.policy.as_file", break_down)

        assert one_line(keyhole, "policy", "show", "azure", code=3) == (
            "KeyError: 'x\\ny': this is a bug in Keyhole; please report it, "
            "with the output of `keyhole --debug`"
        )
        assert "in break_down" in keyhole("--debug", "policy", "show", "azure").err

    def test_secrets_of_the_environment_are_masked_everywhere(self) -> None:
        environment = {
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
            "KEYHOLE_WEBHOOK_SECRET": "whsec_abcdef",
            "KEYHOLE_REDIS_URL": "redis://:p%40ssword@h/0",
        }
        text = "wJalrXUtnFEMI and whsec_abcdef, p@ssword or p%40ssword"

        assert without_secrets(text, environment) == "*** and ***, *** or ***"

    def test_a_traceback_cannot_control_the_terminal(self) -> None:
        shown = details(ValueError("\x1b[2J\u202e"))

        assert "ValueError: \\x1b[2J\\u202e" in shown
        assert all(map(str.isprintable, shown.split("\n")))


@given(error=st.sampled_from([OSError, ValueError, KeyError, MemoryError, RuntimeError]), text=st.text())
def test_every_exception_becomes_one_line(error: type[Exception], text: str) -> None:
    with tempfile.TemporaryFile("w+") as written, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", written)
        assert report_failure(error(text)) == 3
        written.seek(0)
        (line,) = written.read().split("\n")[:-1]

    assert line.startswith("Error: ")
    assert line == escaped(line)


#: Words of command lines. Commands that serve or start servers do not run here.
WORDS = st.sampled_from(
    [
        *sorted(set(COMMANDS) - {"demo", "worker", "listen", "scheduler", "dashboard"}),
        *("-h", "--help", "--json", "-r", "--wait", "--policy", "--status", "--limit", "-o", "--version"),
        *("--once", "--all", "-", "--", "", "list", "show", "check", "azure", "formats", "1", "-1", "1e999"),
        *(
            "s3://",
            "s3://b",
            "s3://b/k",
            "s3:/b",
            "gs://b/k",
            "/dev/null",
            "https://",
            "/proc/self/mem",
            "/nonexistent",
        ),
        *("https://127.0.0.1:1/a?b", "--allow-private"),
        *("\udcff", "\x1b[2J", "\u202e", "a" * 300, "--objects", "--workers", "--dry-run", "NaN", "\n"),
    ]
)


@settings(max_examples=40)
@given(words=st.lists(WORDS, max_size=5))
def test_random_command_lines_end_with_a_documented_code(words: list[str]) -> None:
    """All servers are missing. Every port that the commands use refuses connections."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        nowhere = {
            "KEYHOLE_REDIS_URL": "redis://127.0.0.1:1/0",
            "KEYHOLE_S3_ENDPOINT_URL": "http://127.0.0.1:1",
            "KEYHOLE_DATA_DIR": folder,
            **commands.S3_CREDENTIALS,
        }
        for name, value in nowhere.items():
            patch.setenv(name, value)
        patch.setattr("redis.retry.sleep", lambda _: None)
        patch.setattr("time.sleep", lambda _: None)
        patch.setattr("sys.argv", ["keyhole", *words])
        patch.chdir(folder)
        with (
            Path(folder, "out").open("w+", errors="surrogateescape") as out,
            Path(folder, "err").open("w+") as err,
            Path(os.devnull).open() as nothing,
        ):
            for name, stream in (("stdout", out), ("stderr", err), ("stdin", nothing)):
                patch.setattr(f"sys.{name}", stream)
            with pytest.raises(SystemExit) as end:
                main()
            err.seek(0)
            said = err.read()

    assert end.value.code in {0, 1, 2, 3}, said
    assert "Traceback" not in said
    assert "bug in Keyhole" not in said
