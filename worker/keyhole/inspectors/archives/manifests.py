"""The manifests of a container image, which say which of the archive's files are layers.

Source: OCI Image Format Specification, "Image Layout", "Image Index", "Image Manifest"; Docker Image
Specification 1.2, "Combined Image JSON + Filesystem Changeset Format".

| file | content |
|---|---|
| `manifest.json` | docker's: a list of images, each with `Layers`, a list of paths |
| `index.json` beside `oci-layout` | OCI's: `manifests`, descriptors of image manifests and of indexes |
| `blobs/sha256/<hex>` | an image manifest, which has `layers`, or an index |

A descriptor has a `digest`, `sha256:<hex>`, and a `mediaType`. A file is a layer only if the archive's own
manifests lead to it. Any other archive among the files is an ordinary member, whatever its name. A manifest
that cannot be parsed names no layers.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from keyhole.inspectors.archives.names import parts_of
from keyhole.inspectors.effort import CALL, spend

DOCKER: Final = b"manifest.json"
INDEX, LAYOUT = b"index.json", b"oci-layout"
BLOBS: Final = b"blobs"
#: The longest manifest that is read. An image of 127 layers, docker's limit, has one of 30 KB.
MAX_BYTES: Final = 128 * 1024
#: The most layers and manifests that all manifests together may name: as many as an archive has files.
MAX_NAMED: Final = 16_384
#: Media types of layers that are archives.
LAYER: Final = re.compile(r"application/vnd\.(?:oci\.image\.layer|docker\.image\.rootfs)\.")
DIGEST: Final = re.compile(r"[a-z0-9]+:[0-9a-f]{32,128}", re.ASCII)
DEPTH: Final = 4


class Manifests:
    """The manifests of an archive, read in the order of the archive's files."""

    def __init__(self) -> None:
        self._root_names: set[bytes] = set()
        self._read: set[bytes] = set()
        # The files that each manifest names, by the manifest's path; some are layers.
        self._named: dict[bytes, Mapping[bytes, bool]] = {}
        self._room = MAX_NAMED

    def note(self, name: bytes) -> None:
        """Note the path of a file or a link of the archive."""
        parts = parts_of(name)
        if len(parts) == 1:
            self._root_names.add(parts[0])

    def wants(self, name: bytes, size: int) -> bool:
        """Return whether to read a file, because it has the name and the size of a manifest."""
        parts = parts_of(name)
        is_manifest = parts in ([DOCKER], [INDEX]) or (len(parts) == 3 and parts[0] == BLOBS)
        return is_manifest and 0 < size <= MAX_BYTES

    def read(self, name: bytes, text: bytes) -> None:
        """Read a file for which `wants` is true."""
        path = b"/".join(parts_of(name))
        if path in self._read:
            # Readers differ on which of two files with one path counts, so neither does.
            self._named.pop(path, None)
            return
        self._read.add(path)
        spend(CALL)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
        names = _paths(value) if path == DOCKER else _descriptors(value)
        named = {}
        for one, is_layer in names:
            if not self._room:
                break
            self._room -= 1
            named[one] = is_layer
        if named:
            self._named[path] = named

    @property
    def kind(self) -> str | None:
        """`oci` or `docker`, if the archive has a container image's files at its root."""
        if {INDEX, LAYOUT} <= self._root_names:
            return "oci"
        return "docker" if DOCKER in self._root_names else None

    def layers(self) -> set[bytes]:
        """Return the paths of the layers that the archive's own manifests lead to."""
        layers: set[bytes] = set()
        manifests = {DOCKER} | ({INDEX} if LAYOUT in self._root_names else set())
        for _ in range(DEPTH):
            found = [item for path in manifests for item in self._named.get(path, {}).items()]
            layers |= {path for path, is_layer in found if is_layer}
            manifests = {path for path, is_layer in found if not is_layer}
        return layers


def _paths(value: object) -> Iterator[tuple[bytes, bool]]:
    """The layers that docker's manifest names."""
    for image in value if isinstance(value, list) else []:
        layers = image.get("Layers") if isinstance(image, dict) else None
        for path in layers if isinstance(layers, list) else []:
            if isinstance(path, str):
                yield b"/".join(parts_of(path.encode(errors="replace"))), True


def _descriptors(value: object) -> Iterator[tuple[bytes, bool]]:
    """The manifests that an OCI index or image manifest names, and those of its layers that are archives."""
    if not isinstance(value, dict):
        return
    for key in ("manifests", "layers"):
        descriptors = value.get(key)
        for one in descriptors if isinstance(descriptors, list) else []:
            digest = one.get("digest") if isinstance(one, dict) else None
            if not (isinstance(digest, str) and DIGEST.fullmatch(digest)):
                continue
            kind = one.get("mediaType")
            if key == "manifests" or (isinstance(kind, str) and LAYER.match(kind)):
                yield BLOBS + b"/" + digest.replace(":", "/").encode(), key == "layers"
