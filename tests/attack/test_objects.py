"""Forged tags are refused; hostile names and secrets are harmless in every output."""

from collections.abc import Callable, Iterator

import pytest

from tests.attack import objects
from tests.attack.site import OTHER, Site, attacked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for all attacks, which run one after the other."""
    with attacked(tmp_path_factory.mktemp("attacked")) as site:
        yield site
        assert site.asked_of(OTHER) == []


@pytest.mark.parametrize("attack", objects.ATTACKS, ids=lambda attack: attack.__name__)
def test_it_is_in_vain(site: Site, attack: Callable[[Site], str]) -> None:
    attack(site)
