"""Dead letters: failed messages, jobs, tags and events, which are stored until a user retries or drops them.

    a message ──► not understood, N times ──┐
                                            ├──► a letter ──► retried: deleted when its jobs are published
    a ledger entry ──► given up ────────────┤            └──► dropped
    tags not yet written ──► given up ──────┤
    an event not yet sent ──► given up ─────┘

A ledger entry records one or more scan jobs until their verdicts are written (`keyhole.jobs.ledger`).

The id of a letter is a hash of the message, or of the objects and the queue of the jobs. If the same message
or the same jobs fail again, the letter has the same id, so Keyhole only increments the failure count of the
existing letter. Letters do not expire. A message body is stored in full, unless it is longer than
`LONGEST_BODY`.

A listener acknowledges messages only after their letters are on the disk of the Redis server (`add_durably`).
Two kinds of callers do not wait for the disk (`add`):

- If a caller gives up a ledger entry or tags, it first writes the letter, and then removes the entry or the
  tags from the same Redis. If Redis crashes and loses the letter, Redis also loses the later removal, so the
  ledger entry or the tags are still recorded.
- If a worker refuses a message from the broker, it writes the letter in its event loop, which must not wait
  for the disk.

Known limits: dead letters are lost if Redis loses its data, and they use Redis's memory. If a worker refuses
a message, RabbitMQ can delete the message up to two seconds before the letter is on disk. If Redis crashes
within these two seconds, the message is lost. A client that can write to the queue can fill Redis with
letters.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Self, cast
from uuid import uuid4

import redis
from pydantic import BaseModel, ConfigDict, field_serializer

from keyhole.intake.dead_letter_scripts import ADD, DROP_UNCHANGED
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.masking import masked
from keyhole.results.sinks.event import Event
from keyhole.results.tags import TAG_DEBT, TagDebt
from keyhole.store import keys
from keyhole.store.durability import Durability

#: The longest body that is stored in full, in bytes. `keyhole.intake.events.notifications` does not accept
#: messages that are longer than this. If a body is longer, only its first HEAD_OF_LONGER bytes are stored, so
#: that a user can identify the sender.
LONGEST_BODY: Final = 16 * 1024**2
HEAD_OF_LONGER: Final = 64 * 1024
#: The maximum length of a reason, in characters. A longer reason is cut off.
LONGEST_REASON: Final = 1000
#: For each message that Keyhole does not understand, Redis stores how often the message was received. This
#: count expires this many seconds after the last receive.
RECEIVES_SECONDS: Final = 86_400
#: The size of a letter's id, 128 bits. Among a billion letters, two have the same id with probability 1e-21.
_ID_BYTES: Final = 16
#: The maximum number of letters in one response of Redis.
_PAGE: Final = 100
#: The fields that a list of letters shows.
_HEAD: Final = ("kind", "source", "reason", "times", "first", "last", "size")


class LetterKind(StrEnum):
    """The kind of a dead letter's content."""

    #: A message from a queue of S3 events.
    MESSAGE = "message"
    #: A ledger entry that Keyhole gave up, as JSON.
    JOB = "job"
    #: A message from the broker that no Celery task can process; see `keyhole.intake.refused`.
    REFUSED = "refused"
    #: Tags that could not be written to an object, as JSON (`keyhole.results.tags.TagDebt`).
    TAGS = "tags"
    #: An event that could not be sent to a sink. The letter's source is the sink, and its body is the event.
    EVENT = "event"


class Dead(NamedTuple):
    """A dead letter that is not yet stored.

    `source` is the name or address of the queue, without passwords. `times` is the number of failures.
    """

    id: str
    kind: LetterKind
    source: str
    body: bytes
    reason: str
    times: int = 1

    @classmethod
    def message(cls, body: bytes, source: str, reason: str, times: int = 1) -> Self:
        """Return the letter for a message that Keyhole does not understand."""
        return cls(_id(LetterKind.MESSAGE, body), LetterKind.MESSAGE, source, body, reason, times)

    @classmethod
    def refused(cls, body: bytes, source: str, reason: str) -> Self:
        """Return the letter for a message that no Celery task can process.

        `body` is JSON from `Refused.letter`.
        """
        return cls(_id(LetterKind.REFUSED, body), LetterKind.REFUSED, source, body, reason)

    @classmethod
    def entry(cls, entry: Entry, reason: str) -> Self:
        """Return the letter for a ledger entry that Keyhole gave up.

        If two entries have the same objects and the same queue, they have the same letter.
        """
        objects = [[job.bucket, job.key, job.version_id] for job in entry.jobs]
        named = json.dumps([entry.queue, sorted(objects, key=repr)]).encode()
        body = ENTRY.dump_json(entry, exclude_none=True)
        return cls(_id(LetterKind.JOB, named), LetterKind.JOB, entry.queue, body, reason)

    @classmethod
    def tags(cls, debt: TagDebt, reason: str) -> Self:
        """Return the letter for tags that could not be written. An object has at most one such letter."""
        named = json.dumps([debt.bucket, debt.key, debt.version_id]).encode()
        body = TAG_DEBT.dump_json(debt, exclude_none=True)
        return cls(_id(LetterKind.TAGS, named), LetterKind.TAGS, "tags", body, reason)

    @classmethod
    def event(cls, sink: str, event: Event, reason: str) -> Self:
        """Return the letter for an event that could not be sent.

        For each sink, an event has at most one letter.
        """
        named = f"{sink} {event.id}".encode()
        return cls(_id(LetterKind.EVENT, named), LetterKind.EVENT, sink, event.body, reason)


class DeadLetter(BaseModel):
    """A stored dead letter. Times are in UTC; `size` is the size of the full body in bytes.

    In JSON, `body` is base64. In a list of letters, `body` is `None`, because lists do not load the bodies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: LetterKind
    source: str
    reason: str
    times: int
    first_at: datetime
    last_at: datetime
    size: int
    body: bytes | None = None

    @field_serializer("body", when_used="json-unless-none")
    def _base64(self, body: bytes) -> str:
        # Pydantic writes URL-safe base64, which the command `base64 -d` does not read.
        return b64encode(body).decode()

    @property
    def is_whole(self) -> bool:
        """Whether `body` is loaded and was stored in full."""
        return self.body is not None and len(self.body) == self.size


def with_new_ids(entry: Entry) -> Entry:
    """Return an entry for the same objects with new ids.

    Redis may still contain completion markers, counts and verdicts with the old ids. If the new entry had the
    old ids, Keyhole could wrongly conclude that its jobs are done. The new entry does not belong to an audit,
    because the audit has already counted the old entry.
    """
    jobs = tuple(job.model_copy(update={"id": uuid4().hex}) for job in entry.jobs)
    return Entry(jobs[0].id if len(jobs) == 1 else uuid4().hex, jobs, entry.queue)


class DeadLetters:
    """The dead letters in Redis. The client comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._durable = Durability(client)
        self._add = client.register_script(ADD)
        self._drop_unchanged = client.register_script(DROP_UNCHANGED)

    def add(self, dead: Dead) -> None:
        """Store a letter. If the letter already exists, add to its number of failures.

        If the response of Redis is lost, the client sends the command again, and the failures are counted
        twice.
        """
        self._keep(dead, self._client)

    def add_durably(self, letters: Sequence[Dead]) -> None:
        """Store letters as `add` does, in one round trip, and wait until they are on the server's disk.

        If the server does not support `WAITAOF`, this method does not wait (see `durability`).

        Raises:
            NotDurableError: The server's disk is too slow. The letters are in the server's memory, and are
                lost if the server crashes now.
        """
        if not letters:
            return
        with self._client.pipeline(transaction=False) as pipe:
            for dead in letters:
                self._keep(dead, pipe)
            self._durable.execute(pipe)

    def _keep(self, dead: Dead, client: redis.Redis) -> None:
        size = len(dead.body)
        self._count_in_vain(
            client,
            dead.id,
            dead.times,
            {
                "kind": dead.kind.value,
                "source": dead.source,
                "body": dead.body if size <= LONGEST_BODY else dead.body[:HEAD_OF_LONGER],
                "size": size,
                "reason": _reason(dead.reason),
            },
        )

    def add_again(self, letter_id: str, reason: str) -> None:
        """Increment the failure count of a letter, unless the letter was dropped."""
        self._count_in_vain(self._client, letter_id, 1, {"reason": _reason(reason)}, must_be_there=True)

    def count_receive(self, dead: Dead) -> int:
        """Record one more receive of a message that Keyhole does not understand.

        Return the number of receives so far.
        """
        with self._client.pipeline(transaction=True) as pipe:
            pipe.incr(keys.dead_receives(dead.id))
            pipe.expire(keys.dead_receives(dead.id), RECEIVES_SECONDS)
            return int(pipe.execute()[0])

    def count(self) -> int:
        """Return the number of stored letters."""
        return self._client.zcard(keys.DEAD)

    def ids(self, beginning: str = "") -> list[str]:
        """Return the ids that begin with `beginning`, in the order of the last failure, latest first."""
        found = cast(
            "list[bytes]", self._client.zrevrange(keys.DEAD, 0, -1)
        )  # clients from `connect` return bytes
        return [text for letter_id in found if (text := letter_id.decode()).startswith(beginning)]

    def letters(self, kind: LetterKind | None = None) -> Iterator[DeadLetter]:
        """Yield all letters, or all letters of one kind, without their bodies, latest failure first.

        Letters that are added during the iteration are not included.
        """
        letter_ids = self.ids()
        for start in range(0, len(letter_ids), _PAGE):
            page = letter_ids[start : start + _PAGE]
            with self._client.pipeline(transaction=False) as pipe:
                for letter_id in page:
                    pipe.hmget(keys.dead_letter(letter_id), _HEAD)
                answers: list[list[bytes | None]] = pipe.execute()
            for letter_id, values in zip(page, answers, strict=True):
                if values[0] is None:
                    continue  # the letter was dropped in the meantime
                letter = _letter(letter_id, dict(zip(_HEAD, values, strict=True)))
                if kind in {None, letter.kind}:
                    yield letter

    def get(self, letter_id: str) -> DeadLetter | None:
        """Return a letter with its body; `None` if there is no such letter."""
        found = cast("dict[bytes, bytes]", self._client.hgetall(keys.dead_letter(letter_id)))
        return _letter(letter_id, {name.decode(): value for name, value in found.items()}) if found else None

    def drop(self, letter_ids: Sequence[str]) -> int:
        """Drop letters, and return the number of letters that existed."""
        if not letter_ids:
            return 0
        with self._client.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.DEAD, *letter_ids)
            pipe.delete(*map(keys.dead_letter, letter_ids))
            return int(pipe.execute()[0])

    def drop_unchanged(self, letter: DeadLetter) -> bool:
        """Drop a letter after its message, jobs or tags were retried, and return true.

        If the letter's failure count has changed since the caller read the letter, the retry has already
        failed. In this case, keep the letter, and return false.
        """
        return bool(
            self._drop_unchanged(
                keys=[keys.DEAD, keys.dead_letter(letter.id)], args=[letter.id, letter.times]
            )
        )

    def _count_in_vain(
        self,
        client: redis.Redis,
        letter_id: str,
        times: int,
        fields: Mapping[str, bytes | str | int],
        *,
        must_be_there: bool = False,
    ) -> None:
        self._add(
            keys=[keys.DEAD, keys.dead_letter(letter_id), keys.dead_receives(letter_id)],
            args=[
                letter_id,
                times,
                int(must_be_there),
                *(part for field in fields.items() for part in field),
            ],
            client=client,
        )


def _reason(text: str) -> bytes:
    return masked(text)[:LONGEST_REASON].encode(errors="backslashreplace")


def _id(kind: LetterKind, content: bytes) -> str:
    return blake2b(kind.encode() + b"\0" + content, digest_size=_ID_BYTES).hexdigest()


def _letter(letter_id: str, fields: Mapping[str, Any]) -> DeadLetter:
    """Return the letter that has these fields in Redis."""
    return DeadLetter(
        id=letter_id,
        kind=LetterKind(fields["kind"].decode()),
        source=fields["source"].decode(),
        reason=fields["reason"].decode(),
        times=int(fields["times"]),
        first_at=datetime.fromtimestamp(float(fields["first"]), UTC),
        last_at=datetime.fromtimestamp(float(fields["last"]), UTC),
        size=int(fields["size"]),
        body=fields.get("body"),
    )
