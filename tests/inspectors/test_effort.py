"""An inspection can be stopped at every step, and then reports the facts known so far."""

from collections.abc import Callable

import pytest

from keyhole.builders import Image
from keyhole.inspectors import FileInspector, Inspection
from keyhole.inspectors.catalogue import all_inspectors
from keyhole.inspectors.effort import STEPS, spend, watched
from tests.examples import EXAMPLES
from tests.inspectors.many import MANY
from tests.slow import slow

#: The number of parts in an object.
FEW = 40
READ = 64 * 1024


class EnoughError(Exception):
    """The error that a watch raises."""


def _inspect(inspection: Inspection, image: Image) -> None:
    inspection.finish(image.size)
    while missing := inspection.missing():
        offset, length = missing[0]
        inspection.feed(offset, image.read(offset, max(length, READ)))
    inspection.facts()


def _ending_at(call: int) -> Callable[[], None]:
    """A watch that stops the inspection at its n-th call."""
    calls = 0

    def watch() -> None:
        nonlocal calls
        calls += 1
        if calls > call:
            raise EnoughError

    return watch


def _calls_for(image: Image) -> int:
    calls = 0

    def watch() -> None:
        nonlocal calls
        calls += 1

    with watched(watch):
        _inspect(Inspection(), image)
    return calls


def test_the_watch_is_called_every_so_many_steps() -> None:
    called: list[int] = []
    with watched(lambda: called.append(1)):
        for _ in range(10 * STEPS):
            spend()
    assert len(called) == 10


def test_nobody_is_asked_outside_of_a_watch() -> None:
    with watched(_ending_at(0)), watched(None):
        spend(2 * STEPS)
    spend(2 * STEPS)


def _ends_anywhere(image: Image, tries: int) -> None:
    calls = _calls_for(image)
    assert calls
    for call in range(0, calls, -(-calls // tries)):
        inspection = Inspection()
        # When the watch stops the inspection at one of its calls
        with watched(_ending_at(call)), pytest.raises(EnoughError):
            _inspect(inspection, image)
        # Then the inspection still reports what it has found
        facts = inspection.facts()
        assert len(facts.findings) < 100, call


@pytest.fixture
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call the watch at every step."""
    monkeypatch.setattr("keyhole.inspectors.effort.STEPS", 1)


@pytest.mark.usefixtures("_every_step")
@pytest.mark.parametrize("tries", [2, slow(100)])
@pytest.mark.parametrize("kind", all_inspectors(), ids=lambda kind: kind.__name__)
def test_what_is_known_of_an_image_can_be_told_wherever_an_inspection_is_ended(
    kind: type[FileInspector], tries: int
) -> None:
    for one in EXAMPLES.values():
        if one.inspector is kind:
            _ends_anywhere(one.image, tries)


@pytest.mark.usefixtures("_every_step")
@pytest.mark.parametrize("tries", [2, slow(200)])
@pytest.mark.parametrize("name", [slow(name) if number % 3 else name for number, name in enumerate(MANY)])
def test_what_is_known_of_many_things_can_be_told_wherever_an_inspection_is_ended(
    name: str, tries: int
) -> None:
    _ends_anywhere(MANY[name](FEW), tries)
