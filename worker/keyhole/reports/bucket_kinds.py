"""The kinds of findings about a bucket: verdicts on deleted objects, and tags that contradict verdicts."""

from typing import Final, NamedTuple


class BucketKind(NamedTuple):
    """A kind: its level in SARIF, its meaning, and what to do about it."""

    level: str
    meaning: str
    todo: str


#: The kinds of findings about a bucket.
_KINDS: Final = {
    "gone": BucketKind(
        "note",
        "There is a verdict on an object that no longer exists",
        "nothing, if the object was deleted on purpose; programs that cache the verdict should forget it",
    ),
    "tag_mismatch": BucketKind(
        "warning",
        "The tags of the object contradict its verdict",
        "find out who wrote the tags; `keyhole audit --fix-tags` corrects them; until then, do not trust the "
        "tags of this object",
    ),
}
#: A kind that a newer version stored.
_OTHER: Final = BucketKind("warning", "A finding about the bucket", "see the message")


def bucket_kind(kind: str) -> BucketKind:
    """Return a kind of findings. A newer version of Keyhole can have stored one that is unknown here."""
    return _KINDS.get(kind, _OTHER)
