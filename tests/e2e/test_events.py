"""Events end to end: each object that S3 reports as new gets one verdict, even if processes die."""

import json
import signal
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.intake.dead_letters import Dead, DeadLetters
from keyhole.intake.events.counters import EventCounters
from keyhole.intake.events.notifications import parse, scan_job
from keyhole.jobs.queues import EVENTS
from keyhole.reasons import Status
from keyhole.results.drop import Drops, order
from keyhole.results.lookup import Name
from keyhole.scan.policy import ruleset
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.conftest import Site
from tests.e2e.event_queue import Queue, listening
from tests.intake.events.aws_messages import POISON, message, record
from tests.servers.recorded_moto import RecordedMoto

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()
LIST = "events"
ODD_KEYS = (
    "plain.qcow2",
    "a b+c%2Fd&e=f?.qcow2",
    "uploads//ü/日本語 (1).qcow2",
    "100%",
    " lead and trail ",
    "tab\there",
)


def list_url(site: Site) -> str:
    """The URL of a list in the site's Redis."""
    return f"{site.settings.redis_url}/{LIST}"


def until_empty(site: Site, url: str, **settings: str) -> None:
    """Listen until no message comes."""
    done = commands.keyhole("listen", "--until-empty", url, env={**site.env, **settings})
    assert done.returncode == 0, done.stderr


class TestS3TellsSqs:
    @pytest.fixture
    def queue(self, site: Site) -> Queue:
        return Queue(site)

    def test_what_is_put_is_scanned_and_what_is_deleted_forgotten(
        self, site: Site, queue: Queue, tmp_path: Path
    ) -> None:
        with listening(site, queue.url, tmp_path / "log", KEYHOLE_EVENTS_BUCKETS="test-*") as listener:
            for key in ODD_KEYS:
                site.s3.put_object(Bucket=queue.bucket, Key=key, Body=UNSAFE if key == "100%" else SAFE)
            for key in ODD_KEYS:
                report = commands.until(lambda key=key: site.store.get(queue.bucket, key))
                assert report.status is (Status.UNSAFE if key == "100%" else Status.SAFE)
                commands.until(lambda key=key: "keyhole-status" in site.tags(queue.bucket, key))

            site.s3.delete_object(Bucket=queue.bucket, Key=ODD_KEYS[1])
            commands.until(lambda: site.store.get(queue.bucket, ODD_KEYS[1]) is None)
            commands.until(lambda: queue.left == 0)
            listener.send_signal(signal.SIGTERM)
            assert listener.wait(commands.PATIENCE) == 0

        assert site.store.get(queue.bucket, ODD_KEYS[0]) is not None
        told = json.loads((tmp_path / "log").read_text().splitlines()[-1])
        # moto also sends events about Keyhole's own tags, and about tags that no client wrote.
        assert told["ignored"] >= len(ODD_KEYS)
        assert (told["published"], told["forgotten"], told["dead"]) == (len(ODD_KEYS), 1, 0)

    @pytest.mark.slow
    def test_what_nobody_understands_is_a_dead_letter_and_holds_up_nothing(
        self, site: Site, queue: Queue
    ) -> None:
        queue.send(POISON)
        site.s3.put_object(Bucket=queue.bucket, Key="a.qcow2", Body=SAFE)

        until_empty(site, queue.url)

        assert commands.until(lambda: site.store.get(queue.bucket, "a.qcow2")).status is Status.SAFE
        # The tags of the verdict cause an event too, which can come when no listener runs.
        until_empty(site, queue.url)
        assert queue.left == 0
        listed = commands.keyhole("dead", "list", "--json", env=site.env)
        letters = map(json.loads, commands.lines(listed.stdout))
        name = queue.url.rpartition("/")[2]
        (letter,) = [one for one in letters if one["source"].rpartition("/")[2] == name]
        assert letter["times"] == 3
        shown = commands.keyhole("dead", "show", "--body", letter["id"][:12], env=site.env)
        assert shown.stdout == POISON
        assert commands.keyhole("dead", "drop", letter["id"], env=site.env).returncode == 0

    @pytest.mark.slow
    def test_a_letter_that_is_understood_by_now_gets_its_verdict(self, site: Site) -> None:
        bucket = site.bucket()
        site.s3.put_object(Bucket=bucket, Key="a b.qcow2", Body=UNSAFE)
        letters = DeadLetters(site.redis)
        poison = Dead.message(message(record("a b.qcow2", bucket=bucket)), "sqs://queue", "too new")
        letters.add(poison)

        done = commands.keyhole("dead", "retry", poison.id, env=site.env)

        assert done.returncode == 0, done.stderr
        assert commands.until(lambda: site.store.get(bucket, "a b.qcow2")).status is Status.UNSAFE
        assert letters.get(poison.id) is None


class TestAListInRedis:
    @pytest.mark.slow
    def test_the_same_message_twice_is_one_scan(
        self, faulty_site: Site, recorded: RecordedMoto, tmp_path: Path
    ) -> None:
        """The message is read before the verdict, and again after it."""
        site, bucket = faulty_site, faulty_site.bucket()
        for key in ("a.qcow2", "b.qcow2"):
            site.s3.put_object(Bucket=bucket, Key=key, Body=SAFE)
        body = message(record("a.qcow2", bucket=bucket))
        env = site.env | {"KEYHOLE_S3_ENDPOINT_URL": recorded.url, "KEYHOLE_SINKS": "redis"}
        counts = EventCounters(site.redis)

        with listening(site, list_url(site), tmp_path / "log"):
            site.redis.rpush(LIST, body, body)
            commands.until(lambda: counts.read().get("duplicates") == 1)
            with commands.worker(env, site.log):
                commands.until(lambda: site.store.get(bucket, "a.qcow2"))
                commands.until(lambda: site.ledger.count() == 0)
                # A later message is scanned later, so all work for this object is done.
                site.redis.rpush(LIST, body, message(record("b.qcow2", bucket=bucket)))
                commands.until(lambda: site.store.get(bucket, "b.qcow2"))

        gets = Counter(request.key for request in recorded.requests if request.bucket == bucket)
        assert gets == {"a.qcow2": 1, "b.qcow2": 1}
        counted = counts.read()
        assert (counted["received"], counted["published"], counted["duplicates"]) == (4, 2, 2)

    @pytest.mark.slow
    def test_an_event_that_came_late_does_not_make_a_verdict_older(self, site: Site, tmp_path: Path) -> None:
        bucket = site.bucket()
        site.s3.put_object(Bucket=bucket, Key="a.qcow2", Body=SAFE)
        drops = Drops(site.redis)
        bodies = [
            message(record("a.qcow2", bucket=bucket, sequencer=sequencer))
            for sequencer in ("0055AED6DCD90281E7", "0055AED6DCD90281E9", "0055AED6DCD90281E8")
        ]
        events = [event for body in bodies for event in parse(body)]
        first, latest, _ = (order(event.sequencer) for event in events)
        rules = ruleset(site.settings.scan.policy)

        def stands() -> int | None:
            (found,) = drops.look([Name(bucket, "a.qcow2")])
            return found and found.sequencer

        with listening(site, list_url(site), tmp_path / "log"):
            for body, event, expected in zip(bodies, events, (first, latest, latest), strict=True):
                site.redis.rpush(LIST, body)
                job = scan_job(event, rules)
                commands.until(lambda job_id=job.id: site.ledger.is_done(job_id))
                assert stands() == expected


class TestAListenerIsKilled:
    COUNT = 400

    @pytest.mark.slow
    def test_nothing_is_lost_wherever_it_was(self, faulty_site: Site, tmp_path: Path) -> None:
        """A killed listener's messages are delivered again when its heartbeats stop.

        The test lets that time pass.
        """
        site, random = faulty_site, Random(4)  # noqa: S311 - to choose a moment, not a secret
        names = {f"{number}.qcow2" for number in range(self.COUNT)}
        site.redis.rpush(LIST, *(message(record(name)) for name in sorted(names)))

        for _ in range(3):
            before = site.redis.llen(LIST)
            with listening(site, list_url(site), tmp_path / f"log-{before}") as listener:
                enough = before - random.randrange(1, 100)
                commands.until(lambda enough=enough: site.redis.llen(LIST) <= enough)
                listener.kill()
            assert held(site.redis) != []
            for sign in site.redis.scan_iter(f"{keys.listener_alive(LIST, '')}*"):
                site.redis.delete(sign)
        assert site.redis.llen(LIST) > 0
        until_empty(site, list_url(site))

        noted = [pending.entry for pending in site.ledger.idle(EVENTS, 10 * self.COUNT)]
        assert sorted(job.key for entry in noted for job in entry.jobs) == sorted(names)
        assert {entry.id for entry in noted} <= queued(site.redis)
        assert held(site.redis) == []
        assert DeadLetters(site.redis).count() == 0

    @pytest.mark.slow
    def test_one_that_is_told_to_stop_gives_back_what_it_has_not_taken_over(
        self, faulty_site: Site, tmp_path: Path
    ) -> None:
        site = faulty_site
        site.redis.rpush(LIST, *(message(record(str(number))) for number in range(self.COUNT)))

        with listening(site, list_url(site), tmp_path / "log") as listener:
            commands.until(lambda: site.redis.llen(LIST) < self.COUNT)
            listener.terminate()
            assert listener.wait(commands.PATIENCE) == 0

        assert held(site.redis) == []
        assert site.redis.llen(LIST) + len(queued(site.redis)) == self.COUNT
        assert EventCounters(site.redis).read()["received"] == len(queued(site.redis))


def queued(client: redis.Redis) -> set[str]:
    """The ids of the entries that wait for a worker."""
    messages = client.lrange(f"keyhole:broker:{EVENTS}", 0, -1)
    assert isinstance(messages, list)
    return {json.loads(text)["headers"]["id"] for text in messages}


def held(client: redis.Redis) -> list[bytes]:
    """The lists in which listeners hold messages, and their heartbeats."""
    places = keys.listener_holds(LIST, ""), keys.listener_alive(LIST, "")
    return [key for place in places for key in client.scan_iter(f"{place}*")]
