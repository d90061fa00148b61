"""kombu's Redis transport, for lists in which anybody may have put anything.

kombu takes an item off the list and then reads it as JSON. An item that is no JSON ended the worker, and was
gone. Here such an item, and one that is JSON and no message, is kept as a dead letter.
"""

import json
import logging
from base64 import b64decode
from typing import Any

import redis as redis_py
from kombu.transport import redis as kombu_redis
from kombu.utils.json import loads

from worker.intake.refused import LONGEST_MESSAGE, Refused, keep
from worker.services import services

log = logging.getLogger(__name__)

#: Under this name an item travels, within this module, that is no message.
_RAW = "keyhole-raw"


def _loads(item: str | bytes, **options: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Read an item of a list as JSON; one that is none, or too long, comes back as it is."""
    if len(item) > LONGEST_MESSAGE * 2:  # a body travels as base64, and is told to be too long later
        return {_RAW: item}
    try:
        return loads(item, **options)
    except (ValueError, RecursionError, TypeError, AttributeError):
        return {_RAW: item}


# kombu's channel has no hook between taking an item and reading it.


def _text(data: bytes | str) -> str:
    """Bytes as text; what is no UTF-8 in them is kept, for the dead letter."""
    return data.decode(errors="surrogateescape") if isinstance(data, bytes) else data


setattr(kombu_redis, "loads", _loads)  # noqa: B010 - these are no public names of the module
setattr(kombu_redis, "bytes_to_str", _text)  # noqa: B010 - as above


class Transport(kombu_redis.Transport):
    """The transport, which hands on nothing but messages."""

    def _deliver(self, message: Any, queue: str) -> None:  # noqa: ANN401 - whatever JSON holds
        if _is_message(message):
            # It belongs to the queue that it lay in, whatever it says: a signature names its queue, and what
            # is not acknowledged is put back there.
            message["properties"]["delivery_info"]["routing_key"] = queue
            super()._deliver(message, queue)  # type: ignore[no-untyped-call] # kombu has no types
            return
        raw = message[_RAW] if isinstance(message, dict) and _RAW in message else json.dumps(message)
        reason = "it is no message"
        log.error("an item of %s is a dead letter: %s", queue, reason)
        body = raw.encode(errors="surrogateescape") if isinstance(raw, str) else bytes(raw)
        try:
            keep(services().dead_letters, Refused(queue, body, {}, {}), reason)
        except redis_py.RedisError:
            # It is off the list already, so the log is all that is left of it.
            log.exception("the dead letter was not written; the item was %r", body[:1000])


def _is_message(message: object) -> bool:
    """Whether an item has what kombu reads without asking."""
    if not isinstance(message, dict):
        return False
    properties, body = message.get("properties"), message.get("body")
    if not isinstance(properties, dict) or not isinstance(body, str):
        return False
    info = properties.get("delivery_info")
    if not isinstance(properties.get("delivery_tag"), str) or not isinstance(info, dict):
        return False
    if properties.get("body_encoding") == "base64":
        try:
            b64decode(body)
        except ValueError:
            return False
    return {"exchange", "routing_key"} <= info.keys()
