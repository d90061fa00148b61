"""Every message leads to events, each with its job, or to a readable reason."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.events.event import EventKind, ObjectEvent
from keyhole.intake.events.notifications import NotUnderstoodError, parse, scan_job
from tests.intake.events.messages import MESSAGES, in_sns, message

ACTIONABLE = {EventKind.CREATED, EventKind.RESTORED}
RULES = "1:default"

Json = Any


def parse_hostile(body: bytes) -> tuple[ObjectEvent, ...]:
    """Return all events, each with its job if it requests one.

    If there is a reason instead, return none, and assert that the reason is readable.
    """
    reason = None
    try:
        events = parse(body)
    except NotUnderstoodError as error:
        events, reason = (), error.reason
    assert not (events and reason)
    assert reason is None or (reason and reason.isprintable())
    for event in events:
        if event.kind in ACTIONABLE:
            assert scan_job(event, RULES).key == event.key
    return events


#: A placeholder for a number with more digits than Python reads, which Python could not write either.
HUGE = "a huge number"


def hostile_body_of(value: Json) -> bytes:
    """Write a body as Python does, with NaN and Infinity."""
    return json.dumps(value).encode().replace(json.dumps(HUGE).encode(), b"1" * 5000)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from([HUGE, "", "\ud800", "%FF", "+", "aws:s3", "2.1", "s3://a/b", "Notification"]),
)
NAMES = st.sampled_from(
    [
        "Records",
        "Type",
        "Message",
        "Event",
        "detail-type",
        "detail",
        "source",
        "bucket",
        "key",
        "s3",
        "object",
        "name",
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(st.binary(max_size=200))
def test_random_bytes(body: bytes) -> None:
    parse_hostile(body)


@given(JSON, st.integers(min_value=0, max_value=4))
def test_random_json(value: Json, envelopes: int) -> None:
    body = hostile_body_of(value)
    for _ in range(envelopes):
        body = in_sns(body)
    parse_hostile(body)


@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_recorded_messages_with_a_value_replaced_or_left_out(
    which: tuple[str, str], data: st.DataObject
) -> None:
    """Every place of every message is changed. A wrong value is noticed, or it does not matter."""
    changed = json.loads(json.dumps(MESSAGES[which]))
    holder, name = data.draw(st.sampled_from(list(places(changed))))
    if data.draw(st.booleans()):
        holder[name] = data.draw(JSON)
    else:
        del holder[name]
    parse_hostile(hostile_body_of(changed))


@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_recorded_messages_with_bytes_changed(which: tuple[str, str], data: st.DataObject) -> None:
    body = bytearray(message(*which))
    start = data.draw(st.integers(min_value=0, max_value=len(body)))
    length = data.draw(st.integers(min_value=0, max_value=10))
    body[start : start + length] = data.draw(st.binary(max_size=10))
    parse_hostile(bytes(body))


def places(value: Json) -> Iterator[tuple[Any, Any]]:
    """Yield the place of each value in its object or array, with all inner values."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, inner in entries:
        yield value, name
        yield from places(inner)
