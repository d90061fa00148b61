"""Finds names in an archive that would be written, or read, outside the folder that it is extracted to.

A member may lead outside by its name. A link may lead outside by its target, or through other links, which
`links` follows. A member whose path goes through a link is refused, wherever the link leads. GNU tar and
Python write such a member where the link leads, libarchive, npm's tar and 7-Zip write nothing, and BusyBox
sometimes replaces the link with a folder. A file with the name of an earlier link is refused, too, because
Python writes through the link.
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
    """The paths of an archive so far, and which of them are links."""

    def __init__(self) -> None:
        self._links = Links()
        # Digests of the links' names, and of their folded names.
        self._symlinks: set[bytes] = set()
        self._all_links: set[bytes] = set()

    def wrong_with(self, name: bytes, kind: bytes, link: bytes) -> Iterator[str]:
        """Yield a sentence for each thing that is wrong with the next member."""
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
            yield f"{shown(name)} is a file, and was a link before, through which some readers write"

    def findings(self) -> Iterator[Finding]:
        """Findings on links that lead outside through other links. All links must be known by now."""
        outside = self._links.leading_outside()
        if outside is None:
            yield found("member_limit", "the archive has more links than are followed")
            return
        for link in outside:
            text = f"{shown(link.name)} is a link to {shown(link.target)}, which leads outside through others"
            yield found("member_path", text)

    def _wrong_with_link(self, name: bytes, link: bytes, *, is_hard: bool) -> Iterator[str]:
        if is_hard:
            outside = leads_outside(link)
        else:
            # A target is relative to the link's folder, so it may climb as many levels as the folder is deep.
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
        """Whether a link has this name, or a name that some file system takes for the same."""
        return bool(self._all_links) and not self._all_links.isdisjoint({digest(name), digest(folded(name))})

    def _through_link(self, name: bytes) -> bool:
        """Whether a folder in the name is a symbolic link, or some file system takes it for one."""
        return bool(self._symlinks) and any(
            not self._symlinks.isdisjoint(folders(one)) for one in {name, folded(name)}
        )


def folders(name: bytes) -> Iterator[bytes]:
    """Yield the digests of the folders in a name, from the top."""
    so_far = blake2b(digest_size=DIGEST_BYTES)
    for part in parts_of(name)[:-1]:
        so_far.update(part + b"/")
        yield so_far.copy().digest()
