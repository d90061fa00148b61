"""`keyhole dead` lists, shows, resends and drops messages that could not be processed."""

import json
from base64 import b64decode

import pytest
import redis

from keyhole.inspectors.text import escaped
from keyhole.intake.dead_letters import LONGEST_BODY, Dead, DeadLetters
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.ledger import Ledger
from keyhole.jobs.queues import AUDITS, EVENTS
from keyhole.jobs.tag_debts import TagDebts
from keyhole.results.tags import TagDebt
from tests.cli.conftest import Keyhole
from tests.cli.terminal import terminal
from tests.e2e import commands
from tests.intake.events.aws_messages import POISON, message, record
from tests.slow import slow

SOURCE = "sqs://queue"
NOWHERE = "redis://127.0.0.1:1"
JOBS = tuple(ScanJob(id=key, bucket="images", key=key) for key in ("a", "b"))
HOSTILE = b"\x1b[31m\xff\x00" + "日本語".encode() * 3


@pytest.fixture
def dead(valkey: redis.Redis) -> DeadLetters:
    return DeadLetters(valkey)


def kept(dead: DeadLetters, letter: Dead) -> str:
    """The id of a dead letter."""
    dead.add(letter)
    return letter.id


class TestList:
    def test_the_latest_come_first_with_what_is_wrong(
        self, keyhole: Keyhole, dead: DeadLetters, redis_url: str
    ) -> None:
        dead.add(Dead.message(POISON, SOURCE, "it is a JSON object, but not in a known format", 3))
        dead.add(Dead.entry(Entry("batch", JOBS), "3 workers were lost"))

        printed = keyhole("dead", "list", KEYHOLE_REDIS_URL=redis_url)

        assert (printed.code, printed.err) == (0, "")
        assert printed.lines[1].split()[1] == "job"
        assert printed.lines[2].split()[1] == "message"
        assert "3 workers were lost" in printed.lines[1]

    def test_as_json_it_is_all_but_the_body(
        self, keyhole: Keyhole, dead: DeadLetters, redis_url: str
    ) -> None:
        letter_id = kept(dead, Dead.message(POISON, SOURCE, "no JSON", 3))

        (line,) = keyhole("dead", "list", "--json", KEYHOLE_REDIS_URL=redis_url).lines

        told = json.loads(line)
        assert (told["id"], told["kind"], told["times"]) == (letter_id, "message", 3)
        assert "body" not in told

    def test_a_kind_and_a_number_can_be_chosen(
        self, keyhole: Keyhole, dead: DeadLetters, redis_url: str
    ) -> None:
        for body in (b"1", b"2", b"3"):
            dead.add(Dead.message(body, SOURCE, "no JSON"))
        dead.add(Dead.entry(Entry("batch", JOBS), "lost"))

        def lines(*arguments: str) -> tuple[int, str]:
            printed = keyhole("dead", "list", "--json", *arguments, KEYHOLE_REDIS_URL=redis_url)
            return len(printed.lines), printed.err

        assert lines("--kind", "job") == (1, "")
        assert lines("--kind", "message", "--limit", "3") == (3, "")
        assert "--limit" in keyhole("dead", "list", "--limit", "2", KEYHOLE_REDIS_URL=redis_url).err

    def test_in_a_pipe_each_letter_is_one_line_with_its_whole_reason(
        self, keyhole: Keyhole, dead: DeadLetters, redis_url: str
    ) -> None:
        reason = "\x1b[31m" + "日本語 " * 60 + "end"
        dead.add(Dead.message(b"1", SOURCE, reason))

        head, row, summary = keyhole("dead", "list", KEYHOLE_REDIS_URL=redis_url).lines

        assert head.split() == ["letter", "kind", "last,", "UTC", "times", "size", "reason"]
        assert row.endswith(escaped(f" {reason}"))
        assert summary == "1 dead letter: 1 message"

    def test_there_are_none(self, keyhole: Keyhole, redis_url: str) -> None:
        assert keyhole("dead", "list", KEYHOLE_REDIS_URL=redis_url).out == "no dead letters\n"


class TestShow:
    def test_json_is_laid_out(self, keyhole: Keyhole, dead: DeadLetters, redis_url: str) -> None:
        letter_id = kept(dead, Dead.message(b'{"a": [1]}', SOURCE, "but not in a format"))

        printed = keyhole("dead", "show", letter_id[:8], KEYHOLE_REDIS_URL=redis_url)

        assert printed.code == 0
        assert '"a": [' in printed.lines[-4]
        assert SOURCE in printed.out

    def test_what_it_holds_does_nothing_to_a_terminal(
        self, keyhole: Keyhole, dead: DeadLetters, redis_url: str
    ) -> None:
        letter_id = kept(dead, Dead.message(HOSTILE, SOURCE, "no JSON"))

        printed = keyhole("dead", "show", letter_id, KEYHOLE_REDIS_URL=redis_url)

        assert "\\x1b[31m\\xff" in printed.out
        assert "日本語" in printed.out
        assert "\x1b" not in printed.out

    def test_the_body_is_printed_byte_by_byte(
        self, env: dict[str, str], dead: DeadLetters, valkey_url: str
    ) -> None:
        letter_id = kept(dead, Dead.message(HOSTILE * 1000, SOURCE, "no JSON"))

        done = commands.keyhole(
            "dead", "show", "--body", letter_id, env=env | {"KEYHOLE_REDIS_URL": valkey_url}
        )

        assert done.stdout == HOSTILE * 1000

    def test_a_long_one_is_cut_and_says_so(self, keyhole: Keyhole, dead: DeadLetters, redis_url: str) -> None:
        letter_id = kept(dead, Dead.message(b"x" * (LONGEST_BODY + 1), SOURCE, "too long"))

        printed = keyhole("dead", "show", letter_id, KEYHOLE_REDIS_URL=redis_url)

        assert "(16,777,217 bytes); only the first 64 KiB are stored" in printed.out
        assert "--body" in printed.lines[-1]

    def test_as_json_it_has_its_body(self, keyhole: Keyhole, dead: DeadLetters, redis_url: str) -> None:
        letter_id = kept(dead, Dead.message(HOSTILE, SOURCE, "no JSON"))

        (line,) = keyhole("dead", "show", "--json", letter_id, KEYHOLE_REDIS_URL=redis_url).lines

        assert b64decode(json.loads(line)["body"]) == HOSTILE

    @pytest.mark.parametrize("letter_id", ["nothing", "\x1b[31m"])
    def test_there_is_none(self, keyhole: Keyhole, redis_url: str, letter_id: str) -> None:
        printed = keyhole("dead", "show", letter_id, KEYHOLE_REDIS_URL=redis_url)

        assert printed.code == 2
        assert "keyhole dead list" in printed.error

    def test_an_id_that_is_cut_too_short(self, keyhole: Keyhole, dead: DeadLetters, redis_url: str) -> None:
        for number in range(17):
            dead.add(Dead.message(str(number).encode(), SOURCE, "no JSON"))

        assert "dead letters begin with" in keyhole("dead", "show", "", KEYHOLE_REDIS_URL=redis_url).error


class Retry:
    """Runs `keyhole dead retry` in its own process, because Celery has one broker per process."""

    def __init__(self, env: dict[str, str], valkey: redis.Redis, url: str) -> None:
        self._env = env | {"KEYHOLE_REDIS_URL": url}
        self._redis = valkey
        self.ledger = Ledger(valkey, done_seconds=3600)

    def __call__(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """Return the exit code, and the output on stdout and stderr."""
        done = commands.keyhole("dead", "retry", *arguments, env=self._env | settings)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def queued(self, queue: str) -> list[Entry]:
        """The messages that wait in a queue of the broker. Each is recorded in the ledger."""
        messages = self._redis.lrange(f"keyhole:broker:{queue}", 0, -1)
        assert isinstance(messages, list)
        bodies = [json.loads(b64decode(json.loads(text)["body"])) for text in messages]
        entries = [ENTRY.validate_python(body[0][0]) for body in bodies]
        assert all(self.ledger.is_open(entry.id) for entry in entries)
        return entries


@pytest.fixture
def retry(env: dict[str, str], valkey: redis.Redis, valkey_url: str) -> Retry:
    return Retry(env, valkey, valkey_url)


class TestRetryAMessage:
    def test_that_is_understood_by_now_is_queued_and_gone(self, dead: DeadLetters, retry: Retry) -> None:
        """The message is handled like a new one, and a known job is not queued twice."""
        body = message(record("a"), record("b"))
        letter_id = kept(dead, Dead.message(body, SOURCE, "an earlier version did not know it"))

        assert retry(letter_id) == (0, f"{letter_id[:12]} is removed: 2 objects queued\n", "")

        assert dead.count() == 0
        assert sorted(job.key for entry in retry.queued(EVENTS) for job in entry.jobs) == ["a", "b"]

        dead.add(Dead.message(body, SOURCE, "?"))
        told = f"{letter_id[:12]} is removed: 0 objects queued, 2 already known\n"
        assert retry("--all", KEYHOLE_EVENTS_BUCKETS="images") == (0, told, "")

    @pytest.mark.slow
    def test_that_is_not_stays_and_counts(self, dead: DeadLetters, retry: Retry) -> None:
        """Truncated letters and jobs of a later version stay too. The other letters are dropped."""
        poison = kept(dead, Dead.message(POISON, SOURCE, "no JSON", 3))
        cut = kept(dead, Dead.message(b"x" * (LONGEST_BODY + 1), SOURCE, "too long"))
        job = Dead.entry(Entry("batch", JOBS), "lost")
        unknown = kept(dead, job._replace(body=b'{"id": "batch", "jobs": [], "new": 1}'))
        understood = kept(dead, Dead.message(b"s3://images/a", SOURCE, "?"))

        code, gone, stays = retry("--all")

        assert code == 3
        assert gone == f"{understood[:12]} is removed: 1 object queued\n"
        assert sorted(line.split()[0] for line in stays.splitlines()) == sorted(
            each[:12] for each in (poison, cut, unknown)
        )
        assert sorted(dead.ids()) == sorted([poison, cut, unknown])
        letter = dead.get(poison)
        assert letter is not None
        assert (letter.times, letter.body) == (4, POISON)


class TestRetryAJob:
    def test_it_is_queued_under_new_ids(self, dead: DeadLetters, retry: Retry) -> None:
        """The old id has no attempts left, and its old verdict is stored. Neither can affect the new id."""
        old = Entry("batch", JOBS, AUDITS, audit="a1")
        letter_id = kept(dead, Dead.entry(old, "lost"))

        assert retry(letter_id) == (0, f"{letter_id[:12]} is removed: 2 objects queued\n", "")

        assert dead.count() == 0
        (entry,) = retry.queued(AUDITS)
        assert [job.key for job in entry.jobs] == ["a", "b"]
        assert entry.audit is None
        assert not {entry.id, *(job.id for job in entry.jobs)} & {old.id, *(job.id for job in JOBS)}

    @pytest.mark.slow
    def test_the_letter_stays_until_the_job_is_on_the_broker(self, dead: DeadLetters, retry: Retry) -> None:
        letter_id = kept(dead, Dead.entry(Entry("batch", JOBS), "lost"))

        code, gone, error = retry(letter_id, KEYHOLE_BROKER_URL="amqp://127.0.0.1:1")

        assert (code, gone) == (3, "")
        assert "KEYHOLE_BROKER_URL" in error
        assert dead.ids() == [letter_id]


@pytest.mark.slow
def test_tags_are_owed_again(dead: DeadLetters, retry: Retry, valkey: redis.Redis) -> None:
    """No object is scanned for that."""
    debt = TagDebt("images", "a", None, "abc", {"keyhole-status": "safe"})
    letter_id = kept(dead, Dead.tags(debt, "its tags cannot be written"))

    assert retry(letter_id) == (0, f"{letter_id[:12]} is removed: its tags will be written\n", "")

    debts = TagDebts(valkey)
    (object_id,) = debts.take_due(10)
    hold = debts.hold_recorded(object_id)
    assert hold is not None
    assert hold.debt == debt


class TestDrop:
    def test_those_that_are_named(self, keyhole: Keyhole, dead: DeadLetters, redis_url: str) -> None:
        ids = [kept(dead, Dead.message(body, SOURCE, "no JSON")) for body in (b"1", b"2", b"3")]

        printed = keyhole("dead", "drop", ids[0], ids[1][:12], ids[0], KEYHOLE_REDIS_URL=redis_url)

        assert (printed.code, printed.out) == (0, "2 letters dropped\n")
        assert dead.ids() == ids[2:]

    def test_all(self, keyhole: Keyhole, dead: DeadLetters, redis_url: str) -> None:
        for body in (b"1", b"2"):
            dead.add(Dead.message(body, SOURCE, "no JSON"))

        assert keyhole("dead", "drop", "--all", KEYHOLE_REDIS_URL=redis_url).out == "2 letters dropped\n"
        assert keyhole("dead", "drop", "--all", KEYHOLE_REDIS_URL=redis_url).out == "0 letters dropped\n"

    @pytest.mark.parametrize("how", ["drop", "retry"])
    @pytest.mark.parametrize("arguments", [(), ("abc", "--all")])
    def test_none_or_both_are_a_usage_error(
        self, keyhole: Keyhole, redis_url: str, how: str, arguments: tuple[str, ...]
    ) -> None:
        assert keyhole("dead", how, *arguments, KEYHOLE_REDIS_URL=redis_url).code == 2

    @pytest.mark.parametrize(
        ("arguments", "answer", "left"), [((), "n", 1), slow((), "y", 0), slow(("--yes",), "", 0)]
    )
    def test_a_terminal_is_asked(
        self,
        env: dict[str, str],
        dead: DeadLetters,
        valkey_url: str,
        arguments: tuple[str, ...],
        answer: str,
        left: int,
    ) -> None:
        dead.add(Dead.message(b"1", SOURCE, "no JSON"))

        with terminal(
            "dead", "drop", "--all", *arguments, env=env | {"KEYHOLE_REDIS_URL": valkey_url}
        ) as screen:
            if answer:
                commands.until(lambda: "Delete 1 letter permanently?" in screen.printed)
                screen.type(f"{answer}\n")
            code = screen.ended()

        assert dead.count() == left
        assert code == (130 if left else 0)
        assert ("1 letter dropped" in screen.printed) == (not left)


@pytest.mark.parametrize("arguments", [("list",), slow(("show", "a")), slow(("drop", "--all"))])
def test_redis_is_away(keyhole: Keyhole, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setattr("keyhole.store.connection._RETRIES", 0)

    printed = keyhole("dead", *arguments, KEYHOLE_REDIS_URL=NOWHERE)

    assert (printed.code, printed.out) == (3, "")
    assert "KEYHOLE_REDIS_URL" in printed.error
