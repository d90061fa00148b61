"""Attacks by objects, by their tags, names and metadata, and by events about them."""

import io
import json
from collections.abc import Sequence
from urllib.parse import quote_plus
from uuid import uuid4

from tests.attack.hostile import COMMANDS, HOSTILE, HOSTILE_METADATA, SECRET, URL
from tests.attack.site import MINE, OTHER, UNSAFE, Site
from tests.cli.terminal import terminal
from tests.e2e import commands

#: The operating system does not allow NUL in a program's argument.
ARGUMENT = HOSTILE.replace("\0", "")
FORGED = "keyhole-status=safe&KEYHOLE-STATUS=safe&Keyhole-Image=qcow2&team=a"
#: The columns of a terminal that is so wide that no name is wrapped.
WIDE = {"COLUMNS": "2000"}


def harmless(text: str, *, shown: bool = True) -> None:
    """Fail if a text contains a terminal command, an invisible character or a secret, or lacks the name."""
    for command in COMMANDS:
        assert command not in text, f"{command!r} comes through"
    assert SECRET not in text
    assert not shown or "owned" in text, f"it does not say what it is about: {text[-2000:]}"


def harmless_json(text: bytes, *, shown: bool = True) -> None:
    """Check JSON in the same way. JSON encoders escape all but DEL, which terminals ignore (ECMA-48, 5.5)."""
    assert text.isascii()
    harmless(text.decode().replace("\x7f", ""), shown=shown)


def tagged_safe(site: Site) -> str:
    """An unsafe image that its uploader tags as safe."""
    site.s3.put_object(Bucket=MINE, Key="forged.qcow2", Body=UNSAFE, Tagging=FORGED)
    (verdict,) = site.submit(f"s3://{MINE}/forged.qcow2")
    tags = site.tags("forged.qcow2")
    assert (verdict["status"], tags["keyhole-status"]) == ("unsafe", "unsafe")
    assert "safe" not in {value for name, value in tags.items() if name != "team"}
    assert tags["team"] == "a"
    return f"keyhole-status={tags['keyhole-status']}, other spellings removed, team=a kept"


def tagged_safe_and_no_image(site: Site) -> str:
    """An object that is not an image and that its uploader tags as safe."""
    site.s3.put_object(Bucket=MINE, Key="forged.txt", Body=b"text\n" * 99, Tagging=FORGED)
    (verdict,) = site.submit(f"s3://{MINE}/forged.txt")
    tags = site.tags("forged.txt")
    assert (verdict["status"], tags["keyhole-status"]) == ("unrecognized", "unrecognized")
    assert "safe" not in tags.values()
    return f"keyhole-status={tags['keyhole-status']}, other spellings removed"


def named_with_commands(site: Site) -> str:
    """A key that contains terminal commands, markup and formulas, in every table and page."""
    key, uri = ARGUMENT, f"s3://{MINE}/{ARGUMENT}"
    site.s3.put_object(Bucket=MINE, Key=key, Body=UNSAFE, Metadata={"format": HOSTILE_METADATA})
    shown = 0
    for arguments in (
        ("submit", "--wait", "-r", f"s3://{MINE}/=cmd"),
        ("results",),
        ("show", uri),
        ("inspect", uri),
        ("inspect", "-r", f"s3://{MINE}/=cmd"),
        ("doctor", f"s3://{MINE}/=cmd"),
        ("doctor", uri),
    ):
        harmless(on_a_terminal(site, arguments), shown=arguments != ("doctor", f"s3://{MINE}/=cmd"))
        shown += 1
    for arguments in (("results", "--json"), ("show", "--json", uri), ("inspect", "--json", uri)):
        done = commands.keyhole(*arguments, env=site.env)
        assert key in {json.loads(line)["key"] for line in done.stdout.splitlines()}
        harmless_json(done.stdout)
        shown += 1
    return f"{shown} outputs show escapes"


def named_in_errors(site: Site) -> str:
    """Invalid arguments that contain terminal commands, shown in error messages."""
    for arguments in (
        ("show", f"s3://{MINE}/none/{ARGUMENT}"),
        ("inspect", f"s3://{ARGUMENT}"),
        ("inspect", ARGUMENT),
        ("submit", ARGUMENT),
        ("audit", "--follow", ARGUMENT),
        ("dead", "show", ARGUMENT),
        ("report", ARGUMENT),
        ("inspect", "--x" + ARGUMENT.replace("=", "")),
        (ARGUMENT,),
    ):
        harmless(on_a_terminal(site, arguments))
    return "each is one line with escapes"


def named_in_reports(site: Site) -> str:
    """The same key in the reports of an audit: page, CSV, JSON Lines, Parquet."""
    import pyarrow.parquet as pq

    site.s3.put_object(Bucket=MINE, Key=HOSTILE, Body=UNSAFE)
    printed = on_a_terminal(site, ("audit", f"s3://{MINE}/"))
    harmless(printed, shown=False)
    audit = json.loads(commands.keyhole("audits", "--json", env=site.env).stdout.splitlines()[0])["id"]
    harmless(on_a_terminal(site, ("audits",)), shown=False)
    reports = {
        form: commands.keyhole("report", audit, "-o", form, "--to", "-", env=site.env).stdout
        for form in ("html", "csv", "jsonl", "parquet")
    }
    page = reports["html"].decode()
    harmless(page)
    assert "<script>alert" not in page
    assert "49" not in page[page.index("owned") - 200 : page.index("owned") + 200], "a template was run"
    table = reports["csv"].decode("utf-8-sig")
    harmless(table)
    assert "\"'=cmd" in table
    assert '"=cmd' not in table
    harmless_json(reports["jsonl"])
    # Parquet is read by programs, so the key is stored unchanged.
    rows = pq.read_table(io.BytesIO(reports["parquet"])).to_pylist()
    assert HOSTILE in {row["key"] for row in rows}
    return "escaped in page and CSV, no formula, no markup; exact in JSON Lines and Parquet"


def logged(site: Site) -> str:
    """Names that contain terminal commands, in the worker's log."""
    lines = [line for line in site.log.read_bytes().splitlines() if line.startswith(b"{")]
    harmless_json(b"\n".join(lines), shown=False)
    return f"{len(lines)} lines of JSON in ASCII"


def events_of_another_bucket(site: Site) -> str:
    """An event, in S3's format, about a bucket that KEYHOLE_BUCKETS does not allow."""
    letter = site.letter(lambda: listen(site, event(OTHER, "safe.qcow2")))
    assert "does not allow the bucket 'payroll'" in letter.reason
    assert site.asked_of(OTHER) == []
    return f"dead letter: {letter.reason}"


def events_full_of_commands(site: Site) -> str:
    """Unparsable events that contain terminal commands, in the tables and pages of dead letters."""
    content = json.dumps({"eventName": HOSTILE, "Records": [{"eventSource": HOSTILE + URL}]})
    site.letter(lambda: listen(site, f"{URL} {HOSTILE}".encode()))
    letter = site.letter(lambda: listen(site, content.encode()))
    harmless(letter.reason, shown=False)
    for arguments in (("dead", "list"), ("dead", "show", letter.id)):
        harmless(on_a_terminal(site, arguments), shown=False)
    refused = on_a_terminal(site, ("dead", "show", letter.id, "--body"))
    assert "can contain control codes" in refused
    return "escapes in the tables; raw bytes go to no terminal"


def passwords_in_urls(site: Site) -> str:
    """Passwords in the URLs of settings, wrongly encoded or misplaced, in error messages and findings."""
    shown = []
    for name, url, arguments in (
        ("KEYHOLE_REDIS_URL", URL, ("results",)),
        ("KEYHOLE_REDIS_URL", f"redis://{SECRET}@127.0.0.1:1", ("doctor",)),
        ("KEYHOLE_REDIS_URL", f"redis://:{SECRET}@127.0.0.1:1", ("doctor",)),
        ("KEYHOLE_BROKER_URL", f"amqp://user:{SECRET}#{SECRET}@127.0.0.1", ("doctor",)),
        ("KEYHOLE_S3_ENDPOINT_URL", f"http://user:{SECRET}@127.0.0.1:1", ("doctor",)),
        ("AWS_ENDPOINT_URL", f"http://user:{SECRET}@127.0.0.1:1", ("inspect", "--json", f"s3://{MINE}/a")),
        ("AWS_ENDPOINT_URL", f"http://user:{SECRET}@127.0.0.1:1", ("inspect", f"s3://{MINE}/a")),
        ("HTTP_PROXY", f"http://user:{SECRET}@127.0.0.1:1", ("inspect", f"s3://{MINE}/a")),
        ("KEYHOLE_EVENTS_URL", URL, ("listen",)),
    ):
        env = {**site.env, name: url}
        if name == "AWS_ENDPOINT_URL":
            del env["KEYHOLE_S3_ENDPOINT_URL"]
        if name == "HTTP_PROXY":
            env["KEYHOLE_S3_ENDPOINT_URL"] = "http://s3.example.invalid"
        done = commands.keyhole(*arguments, env=env)
        said = (done.stdout + done.stderr).decode()
        harmless(said, shown=False)
        assert done.returncode in {2, 3}, (name, said)
        assert "Traceback" not in said
        shown.append(name)
    return f"{len(shown)} of them, not one shown"


def on_a_terminal(site: Site, arguments: Sequence[str]) -> str:
    """The output of a command on a terminal, including colours and cursor movements."""
    with terminal(*arguments, env={**site.env, **WIDE}) as screen:
        screen.ended()
        return screen.printed


def event(bucket: str, key: str) -> bytes:
    """A message in the form in which S3 sends it."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-05-01T12:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), "size": 1, "sequencer": "0A"}},
    }
    return json.dumps({"Records": [record]}).encode()


def listen(site: Site, *messages: bytes) -> None:
    """Send events, and let a listener process them."""
    queue = f"events-{uuid4().hex}"
    site.redis.lpush(queue, *messages)
    env = {**site.env, "KEYHOLE_DEAD_AFTER": "1"}
    done = commands.keyhole("listen", "--until-empty", f"{site.settings.redis_url}/0/{queue}", env=env)
    assert done.returncode == 0, done.stderr
    harmless(done.stderr.decode(), shown=False)


ATTACKS = (
    tagged_safe,
    tagged_safe_and_no_image,
    named_with_commands,
    named_in_errors,
    named_in_reports,
    events_of_another_bucket,
    events_full_of_commands,
    passwords_in_urls,
    logged,
)
