"""The binary format of owners: whatever is stored is read again, and a script writes the same format."""

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from keyhole.intake.audits.owners import PACK_OWNERS, owner_bytes, pack_owners, unpack_owners
from keyhole.results.owner import Owner

#: Every kind of owner. Tags are chosen by uploaders, so they contain any character.
OWNERS = st.one_of(
    st.just(Owner()),
    st.builds(Owner, st.text(max_size=256), st.none()),
    st.builds(Owner, st.none(), st.text(max_size=300)),
)
HOSTILE = ["", "-", "=", "!", "a\0b\r\n", "\u202egpj.exe", "<script>", "=1+1", "🦀" * 256]


@given(owners=st.lists(OWNERS, max_size=50))
@example(owners=[Owner(name) for name in HOSTILE])
def test_what_is_packed_is_unpacked(owners: list[Owner]) -> None:
    assert list(unpack_owners(pack_owners(owners))) == owners


@given(owners=st.lists(OWNERS, max_size=50))
@example(owners=[Owner(name) for name in HOSTILE])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_script_packs_as_python_does(valkey: redis.Redis, owners: list[Owner]) -> None:
    packed = valkey.eval(PACK_OWNERS + "return pack_owners(ARGV)", 0, *map(owner_bytes, owners))

    assert packed == pack_owners(owners)


@pytest.mark.parametrize("owner", [Owner(), Owner("payments"), Owner("ü" * 256)])
def test_an_owner_is_stored_once_and_each_row_takes_two_bytes(owner: Owner) -> None:
    one, thousand = len(pack_owners([owner])), len(pack_owners([owner] * 1000))

    assert thousand - one == 2 * 999
