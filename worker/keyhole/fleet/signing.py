"""Signs the messages that this process publishes, and verifies the messages that it receives.

Without signing keys, this module signs nothing and refuses nothing. With keys, it signs every message that
Celery publishes in this process: jobs, entries that the sweep sends again, audits, schedules and retries.

An attacker can copy a signed message and send it again; this is a replay. The ledger (`keyhole.jobs.ledger`)
records the work of a message as open until the work is done, and then as done for `done_seconds`. As long as
the ledger records the work, a replay has no effect. Later, a replay would cause a new scan. So a worker
refuses a message that was signed more than `done_seconds` ago and whose work is not open. If the work is
open, the worker accepts the message at any age, because a message can wait in its queue for days.

The ledger does not record the messages of the housekeeping queue. Replays of these messages have no effect
either. The message for a page of an audit contains a token that is valid only once. The message for a due
audit contains the audit's id, so a replay starts no second audit. An additional sweep does no harm.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from celery.signals import before_task_publish
from kombu.serialization import dumps

from keyhole.jobs.signatures import HEADER, Keyring, UnsignedError, read_keys

_keyring: Keyring | None = None


def use_keys(path: Path | None) -> None:
    """Use the keys of a file to sign and verify messages from now on.

    If `path` is `None`, messages are neither signed nor verified.

    Raises:
        ValueError: The file contains no usable keys.
    """
    global _keyring  # noqa: PLW0603 - Celery's signals exist once per process, and so do the keys
    _keyring = None if path is None else read_keys(path)


def signed(queue: str, headers: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """Return a message's headers with a new signature; without keys, the headers without a signature."""
    others = {name: value for name, value in headers.items() if name != HEADER}
    if _keyring is None:
        return others
    return others | {HEADER: _keyring.sign(queue, others, body, time.time())}


def why_forged(queue: str, headers: Mapping[str, Any], body: bytes) -> str | None:
    """Return why a message's signature is not valid; `None` if it is valid, or if there are no keys."""
    try:
        _signed_at(queue, headers, body)
    except UnsignedError as error:
        return str(error)
    return None


def why_refused(
    queue: str,
    headers: Mapping[str, Any],
    body: bytes,
    *,
    remembered: float,
    is_open: Callable[[str], bool],
) -> str | None:
    """Return why the worker must refuse a message; `None` if the worker may accept it.

    Args:
        queue: The queue from which the message was taken.
        headers: The message's headers. The values have many types.
        body: The message's body, as received.
        remembered: Seconds for which the ledger remembers finished work.
        is_open: A function that returns whether the ledger contains open work with a message's id.
    """
    try:
        signed_at = _signed_at(queue, headers, body)
    except UnsignedError as error:
        return str(error)
    if signed_at is None:
        return None
    age = time.time() - signed_at
    if age <= remembered or is_open(str(headers.get("id"))):
        return None
    return f"it was signed {age:,.0f} s ago and its work is not open, so it may be a replay of finished work"


def _signed_at(queue: str, headers: Mapping[str, Any], body: bytes) -> int | None:
    """Return when a message was signed, in seconds since 1970; `None` if there are no keys."""
    return None if _keyring is None else _keyring.verify(queue, headers, body, time.time())


def _sign(body: object, routing_key: str, headers: dict[str, Any], **_: object) -> None:
    """Sign a message before Celery publishes it.

    This function serializes the body as Celery does, so the signature is valid for the bytes that Celery
    sends.
    """
    if _keyring is not None:
        _, _, content = dumps(body, serializer="json")
        headers.update(
            signed(routing_key, headers, content.encode() if isinstance(content, str) else content)
        )


before_task_publish.connect(_sign, weak=False)
