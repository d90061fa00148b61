"""Attacks by messages to the broker. Each function tries one attack, and raises if it succeeds.

It returns a text that states how the attack ended.
"""

import pickle
import time
from functools import partial
from gzip import compress

from celery import Celery

from keyhole.app import configuration
from keyhole.jobs.queues import EVENTS, HOUSEKEEPING, JOBS
from keyhole.jobs.signatures import HEADER, Key, Keyring
from tests.attack.site import MINE, OTHER, Headers, Site, body, headers, job
from tests.e2e import commands


def refused(site: Site, content: bytes, about: Headers, says: str, *, queue: str = JOBS) -> str:
    """Publish a message. It must become a dead letter with this reason, and cause no request to S3."""
    asked = len(site.moto.requests)
    letter = site.letter(lambda: site.publish(content, about, queue=queue))
    assert says in letter.reason, letter.reason
    assert len(site.moto.requests) == asked
    return f"dead letter: {letter.reason}"


def unsigned(site: Site) -> str:
    """A job without a signature."""
    argument = job()
    return refused(site, body(argument), headers(argument), "is not signed")


def signed_by_another_key(site: Site) -> str:
    """A job that is signed with the attacker's own key."""
    argument = job()
    own = Keyring([Key(bytes(range(32)))])
    about = headers(argument)
    about[HEADER] = own.sign(JOBS, about, body(argument), time.time())
    return refused(site, body(argument), about, "which KEYHOLE_SIGNING_KEY_FILE lacks")


def signed_by_another_key_of_the_same_id(site: Site) -> str:
    """A job that is signed with the attacker's key, under the id of the right key."""
    argument = job()
    own = Key(bytes(range(32)))
    about = headers(argument)
    now = int(time.time())
    mac = own.mac(JOBS, about, body(argument), now)
    about[HEADER] = f"v1 {site.keyring.keys[0].id} {now} {mac}"
    return refused(site, body(argument), about, "its signature is wrong")


def changed(site: Site) -> str:
    """A signed job whose object was replaced after signing."""
    argument = job()
    about = site.signed(body(argument), headers(argument))
    argument["jobs"][0]["key"] = "other.qcow2"
    return refused(site, body(argument), about, "its signature is wrong")


def moved_to_another_queue(site: Site) -> str:
    """A signed job that was moved from its queue to a more urgent queue."""
    argument = job()
    about = site.signed(body(argument), headers(argument))
    return refused(site, body(argument), about, "its signature is wrong", queue=EVENTS)


def made_another_task(site: Site) -> str:
    """The signed arguments of one task, sent to another task."""
    argument = job()
    about = site.signed(body(argument), headers(argument)) | {"task": "keyhole.scan_batch"}
    return refused(site, body(argument), about, "its signature is wrong")


def replayed(site: Site) -> str:
    """A recorded message of a finished job, sent again within a day."""
    argument = job()
    about = site.signed(body(argument), headers(argument))
    site.publish(body(argument), about)
    commands.until(lambda: site.ledger.is_done(argument["id"]))
    letters, asked = site.dead.count(), len(site.moto.requests)
    verdict = site.store.get(MINE, "safe.qcow2", None)
    site.publish(body(argument), about)
    commands.until(partial(site.says, f"{argument['id']} is done already"))
    assert (site.dead.count(), len(site.moto.requests)) == (letters, asked)
    assert site.store.get(MINE, "safe.qcow2", None) == verdict
    return "nothing is done: the ledger knows the work"


def replayed_late(site: Site) -> str:
    """A recorded message, sent again after the ledger has forgotten the job."""
    argument = job()
    yesterday = time.time() - site.settings.done_seconds - 60
    about = site.signed(body(argument), headers(argument), at=yesterday)
    return refused(site, body(argument), about, "may be a replay of finished work")


def in_the_future(site: Site) -> str:
    """A message whose signature has a date in the next year, so that it could be sent again until then."""
    argument = job()
    about = site.signed(body(argument), headers(argument), at=time.time() + 365 * 86_400)
    return refused(site, body(argument), about, "in the future")


def of_another_bucket(site: Site) -> str:
    """A job for a bucket that KEYHOLE_BUCKETS does not allow, correctly signed."""
    argument = job(OTHER)
    about = site.signed(body(argument), headers(argument))
    return refused(site, body(argument), about, "does not allow the bucket 'payroll'")


def of_another_bucket_by_a_schedule(site: Site) -> str:
    """An audit of such a bucket, by the task that starts scheduled audits."""
    content = body("nightly", {"bucket": OTHER})
    about = site.signed(content, headers({}, "keyhole.audit_due"), queue=HOUSEKEEPING)
    return refused(site, content, about, "does not allow the bucket 'payroll'", queue=HOUSEKEEPING)


def of_another_bucket_by_its_key(site: Site) -> str:
    """A job whose key contains `../`, to leave its bucket."""
    (verdict,) = site.submit(f"s3://{MINE}/../{OTHER}/safe.qcow2")
    assert site.asked_of(OTHER) == []
    assert verdict["status"] == "unreadable", verdict
    return f"{verdict['status']}: {', '.join(verdict['reasons'])}; it is a key like any other"


def of_another_endpoint(site: Site) -> str:
    """A job that names the attacker's S3 server, which would then receive signed requests."""
    argument = job(endpoint_url="http://127.0.0.1:1")
    about = site.signed(body(argument), headers(argument))
    return refused(site, body(argument), about, "cannot be called with its arguments")


def of_another_endpoint_by_option(site: Site) -> str:
    """A job with the attacker's S3 server in an option of the task."""
    argument = job()
    content = body(argument, endpoint_url="http://127.0.0.1:1")
    return refused(
        site, content, site.signed(content, headers(argument)), "cannot be called with its arguments"
    )


def of_a_bucket_that_is_a_host(site: Site) -> str:
    """A bucket whose name would lead a request to another host."""
    argument = job("images@evil.example:80/x?")
    about = site.signed(body(argument), headers(argument))
    return refused(site, body(argument), about, "does not allow the bucket")


def oversized(site: Site) -> str:
    """A message of 17 MiB."""
    argument = job(key="x" * 17 * 1024**2)
    return refused(site, body(argument), headers(argument), "Keyhole accepts at most")


def compressed(site: Site) -> str:
    """A message that is small while compressed, and 256 MiB after decompression."""
    content = compress(b"[" * 256 * 1024**2)
    return refused(site, content, headers({}, compression="application/x-gzip"), "it is compressed")


def pickled(site: Site) -> str:
    """A message in the pickle format, which can contain code."""
    letter = site.letter(
        lambda: site.publish(
            pickle.dumps([[], {}, {}]),
            headers({}),
            content_type="application/x-python-serialize",
            content_encoding="binary",
        )
    )
    return f"dead letter: {letter.reason}"


def no_json(site: Site) -> str:
    """Items in the queue that are not JSON, or JSON but not a message."""
    said = set()
    for item in (b"\xff\x00", b"[" * 100_000, b"{}", b'"text"', b'{"properties": 1, "body": 2}'):
        said.add(site.letter(partial(site.push, item)).reason)
    return f"dead letters: {', '.join(sorted(said))}"


def a_task_of_celerys(site: Site) -> str:
    """A task that is built into Celery and retries forever."""
    content = body("group", {})
    return refused(site, content, headers({}, "celery.chord_unlock"), "is for the task 'celery.chord_unlock'")


def a_task_that_is_none(site: Site) -> str:
    """A task with the name of a function from Python's `os` module."""
    return refused(site, body("id"), headers({}, "os.system"), "is for the task 'os.system'")


def remote_commands(site: Site) -> str:
    """Celery's remote control commands to workers: shut down, restart the pool, revoke, limit."""
    conf = configuration(site.settings)
    commanded: dict[str, Headers] = {
        "shutdown": {},
        "pool_restart": {"modules": [], "reload": True},
        "revoke": {"task_id": "x", "terminate": True, "signal": "KILL"},
        "rate_limit": {"task_name": "keyhole.scan", "rate_limit": "1/h"},
        "cancel_consumer": {"queue": JOBS},
        "time_limit": {"task_name": "keyhole.scan", "soft": 0.001, "hard": 0.001},
    }
    with Celery(set_as_current=False) as app:
        app.conf.update(conf)
        assert app.control.ping(timeout=5.0), "the control is not reached"
        for name, arguments in commanded.items():
            app.control.broadcast(name, arguments=arguments)
            commands.until(partial(site.says, f"KeyError('{name}')"))
    assert site.worker.poll() is None
    return "the worker knows none of them"


ATTACKS = (
    unsigned,
    signed_by_another_key,
    signed_by_another_key_of_the_same_id,
    changed,
    moved_to_another_queue,
    made_another_task,
    replayed,
    replayed_late,
    in_the_future,
    of_another_bucket,
    of_another_bucket_by_a_schedule,
    of_another_bucket_by_its_key,
    of_another_endpoint,
    of_another_endpoint_by_option,
    of_a_bucket_that_is_a_host,
    oversized,
    compressed,
    pickled,
    no_json,
    a_task_of_celerys,
    a_task_that_is_none,
    remote_commands,
)
