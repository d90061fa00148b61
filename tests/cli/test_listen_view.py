"""The lines that a listener logs about its counts."""

import logging
import threading

import pytest

from keyhole.cli import listen_view
from keyhole.cli.listen_view import Tally, View
from keyhole.intake.events.listener import Poll


def test_a_line_is_logged_at_info_only_if_something_changed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, a listener with nothing to do hides the other lines of a day behind 8,640 of its own."""
    monkeypatch.setattr(listen_view, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(logging.getLogger("keyhole"), "propagate", True)
    caplog.set_level(logging.DEBUG, logger="keyhole.listen")
    tally = Tally()
    view = View("redis://host/0/list", tally, threading.Event())

    for poll in (
        *(Poll(), Poll()),
        *(Poll({"received": 1}), Poll()),
        *(Poll(trouble="Redis does not respond"), Poll(trouble="Redis does not respond")),
        *(Poll(), Poll()),
    ):
        tally.add(poll)
        view.tick()

    levels = [record.levelname for record in caplog.records if record.name == "keyhole.listen"]
    assert levels == ["INFO", "DEBUG"] * 4
