"""Keys: the ids of objects are unambiguous and stable, and all keys are in one hash slot."""

import inspect

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from keyhole.store import keys

names = st.text(max_size=20)


@given(names, names, st.none() | names, names, names, st.none() | names)
def test_different_objects_have_different_ids(
    bucket: str, key: str, version: str | None, other_bucket: str, other_key: str, other_version: str | None
) -> None:
    """Only the same bucket, key and version give the same id. No version is the same as an empty version."""
    same = (bucket, key, version or "") == (other_bucket, other_key, other_version or "")

    ids = keys.object_id(bucket, key, version), keys.object_id(other_bucket, other_key, other_version)

    assert (ids[0] == ids[1]) is same


def test_text_moved_across_a_boundary_is_another_object() -> None:
    """`a` + `b/c` is not `a/b` + `c`, and a version is not the end of a key."""
    ids = {
        keys.object_id("a", "b/c", None),
        keys.object_id("a/b", "c", None),
        keys.object_id("a", "b/", "c"),
        keys.object_id('a", "b', "c", None),
    }

    assert len(ids) == 4


def test_an_id_is_stable() -> None:
    """Records exist longer than the process that wrote them."""
    assert keys.object_id("images", "a.qcow2", None) == "582b52efa39f7d0e194d4dc0384716be"


def test_all_keys_are_in_one_hash_slot() -> None:
    """A cluster refuses a script or a transaction whose keys are in different slots."""
    constants = [value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)]
    builders = [
        function
        for name, function in inspect.getmembers(keys, inspect.isfunction)
        if not name.startswith("_") and name not in {"object_id", "failures"}
    ]
    built = [function(*["a{b}c"] * len(inspect.signature(function).parameters)) for function in builders]

    assert len(built) > 15
    assert {key_slot(key.encode()) for key in [*constants, *built, keys.failures(7)]} == {key_slot(b"v1")}
    assert all(key.startswith("keyhole:") for key in [*constants, *built])
