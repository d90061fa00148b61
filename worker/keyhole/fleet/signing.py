"""Signs the messages that this process publishes, and refuses those that it must not work on.

Without keys, nothing is signed and nothing is refused. With keys, every message that Celery publishes in this
process is signed: jobs, entries that the sweep sends again, audits, schedules, retries.

A replay of a signed message changes nothing while the ledger remembers its work: open work goes on, and
finished work is remembered for `done_seconds`. So a message is accepted if it was signed within
`done_seconds`, or if its work is still open, because a backlog of days is not an attack. Replays of
housekeeping messages never change anything: the token of an audit's page works once, an audit that is due
has an id of its own, and a sweep may run at any time.
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
    """Sign and verify by the keys of a file from now on; with `None`, do neither.

    Raises:
        ValueError: The file has no usable keys.
    """
    global _keyring  # noqa: PLW0603 - Celery's signals are one per process, and so is what they sign with
    _keyring = None if path is None else read_keys(path)


def signed(queue: str, headers: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """The headers of a message with a new signature, if there are keys. `headers` are of every type."""
    others = {name: value for name, value in headers.items() if name != HEADER}
    if _keyring is None:
        return others
    return others | {HEADER: _keyring.sign(queue, others, body, time.time())}


def why_forged(queue: str, headers: Mapping[str, Any], body: bytes) -> str | None:
    """Return why a message has no valid signature; `None` if it has one, or if there are no keys."""
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
    """Return why a message must not be worked on; `None` if it may be.

    Args:
        queue: The queue that it was taken from.
        headers: Its headers, of every type.
        body: Its body as it came.
        remembered: For how many seconds finished work is remembered.
        is_open: Whether the work of a message's id is recorded and not done.
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
    """Sign a message before Celery publishes it. Celery serializes it by the same function."""
    if _keyring is not None:
        _, _, content = dumps(body, serializer="json")
        headers.update(
            signed(routing_key, headers, content.encode() if isinstance(content, str) else content)
        )


before_task_publish.connect(_sign, weak=False)
