"""Finds names and links that lead out of the folder that an archive is extracted to.

- A name can lead outside, for example `../disk`.
- A link's target can lead outside, directly or through other links. The module `links` follows such chains.
- A member's path can go through a link. Keyhole reports every such path, because readers treat the path
  differently. GNU tar and Python write the member to the place to which the link leads. libarchive, npm's tar
  and 7-Zip do not write the member. BusyBox sometimes replaces the link with a folder.
- A file can have the name of an earlier link. Keyhole reports such a file, because Python writes through the
  link.
"""

from collections.abc import Iterator
from hashlib import blake2b

from keyhole.inspectors.archives.links import Link, Links
from keyhole.inspectors.archives.names import (
    DIGEST_BYTES,
    digest,
    leads_outside,
    lowest,
    parts_of,
    shown,
    unfit,
)
from keyhole.inspectors.archives.namesakes import folded
from keyhole.inspectors.archives.tar.header import BODILESS, DEVICES, HARD_LINK, SYMLINK
from keyhole.inspectors.findings import Finding, found


class Paths:
    """Records the links of an archive, and checks each member's path against the links before it."""

    def __init__(self) -> None:
        self._links = Links()
        # `_symlinks` has the digests of the symbolic links' names, both of the exact and of the folded names
        # (see `namesakes`). `_all_links` has the digests for all links.
        self._symlinks: set[bytes] = set()
        self._all_links: set[bytes] = set()

    def wrong_with(self, name: bytes, kind: bytes, link: bytes) -> Iterator[str]:
        """Yield one sentence for each problem with the next member's name, kind or link target."""
        outside = leads_outside(name)
        if outside:
            yield f"the name {shown(name)} {outside}"
        elif self._through_link(name):
            yield f"the name {shown(name)} leads through a link"
        if kind in DEVICES:
            yield f"{shown(name)} is a device"
        elif kind in {HARD_LINK, SYMLINK}:
            yield from self._wrong_with_link(name, link, is_hard=kind == HARD_LINK)
        elif kind not in BODILESS and self._is_link(name):
            yield f"{shown(name)} is a file with the name of a link, so some readers write through the link"

    def findings(self) -> Iterator[Finding]:
        """Yield findings on links that lead outside through other links, or one finding on too many links.

        Call this after the last member.
        """
        outside = self._links.leading_outside()
        if outside is None:
            yield found("member_limit", "the archive has more links than Keyhole follows")
            return
        for link in outside:
            name, target = shown(link.name), shown(link.target)
            text = f"{name} is a link to {target}, which leads outside through other links"
            yield found("member_path", text)

    def _wrong_with_link(self, name: bytes, link: bytes, *, is_hard: bool) -> Iterator[str]:
        if is_hard:
            outside = leads_outside(link)
        else:
            # The target is relative to the folder of the link. So the target stays inside if it goes up at
            # most as many levels as this folder is deep.
            folders = len(parts_of(name)) - 1
            outside = unfit(link) or ("leads outside" if lowest(link, folders) < 0 else None)
        if outside:
            yield f"{shown(name)} is a link to {shown(link)}, which {outside}"
        digests = {digest(name), digest(folded(name))}
        self._all_links |= digests
        if not is_hard:
            self._symlinks |= digests
        self._links.note(Link(name, link, is_hard=is_hard, is_known=outside is not None))

    def _is_link(self, name: bytes) -> bool:
        """Return whether a link has this name, or a name that some file systems treat as the same name."""
        return bool(self._all_links) and not self._all_links.isdisjoint({digest(name), digest(folded(name))})

    def _through_link(self, name: bytes) -> bool:
        """Return whether a folder in the name is a symbolic link, by its exact or by its folded name."""
        return bool(self._symlinks) and any(
            not self._symlinks.isdisjoint(folders(one)) for one in {name, folded(name)}
        )


def folders(name: bytes) -> Iterator[bytes]:
    """Yield the digest of each folder's path in a name, the topmost folder first."""
    so_far = blake2b(digest_size=DIGEST_BYTES)
    for part in parts_of(name)[:-1]:
        so_far.update(part + b"/")
        yield so_far.copy().digest()
