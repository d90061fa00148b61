"""Reads the manifests of a container image, which name the files of the archive that are layers.

Source: OCI Image Format Specification, "Image Layout", "Image Index", "Image Manifest"; Docker Image
Specification 1.2, "Combined Image JSON + Filesystem Changeset Format".

| file | content |
|---|---|
| `manifest.json` | Docker's manifest: a list of images, each with `Layers`, a list of paths |
| `index.json` beside `oci-layout` | OCI's index: `manifests`, descriptors of image manifests and of indexes |
| `blobs/sha256/<hex>` | an image manifest, which has `layers`, or another index |

A descriptor has a `digest`, such as `sha256:<hex>`, and a `mediaType`. Keyhole treats a file as a layer only
if Docker's manifest names the file, or if `index.json` leads to it, directly or through other manifests. All
other archives among the files are ordinary members. If a manifest cannot be parsed, Keyhole finds no layers
in it.
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
#: The longest manifest that Keyhole reads, in bytes. The manifest of an image with 127 layers, Docker's
#: limit, has 30 KB.
MAX_BYTES: Final = 128 * 1024
#: The most names of layers and manifests that Keyhole reads from all manifests of an archive together. This
#: limit equals the limit on the headers of an archive.
MAX_NAMED: Final = 16_384
#: Media types of layers that are archives.
LAYER: Final = re.compile(r"application/vnd\.(?:oci\.image\.layer|docker\.image\.rootfs)\.")
DIGEST: Final = re.compile(r"[a-z0-9]+:[0-9a-f]{32,128}", re.ASCII)
DEPTH: Final = 4


class Manifests:
    """Collects the manifests of an archive, in the archive's order, and finds the layers that they name."""

    def __init__(self) -> None:
        self._root_names: set[bytes] = set()
        self._read: set[bytes] = set()
        # Maps the path of each manifest to the paths of the files that the manifest names. The inner mapping
        # states for each of these files whether it is a layer.
        self._named: dict[bytes, Mapping[bytes, bool]] = {}
        self._room = MAX_NAMED

    def note(self, name: bytes) -> None:
        """Record the path of a file or link. The names in the archive's root determine `kind`."""
        parts = parts_of(name)
        if len(parts) == 1:
            self._root_names.add(parts[0])

    def wants(self, name: bytes, size: int) -> bool:
        """Return whether a file can be a manifest, according to its path and its size in bytes."""
        parts = parts_of(name)
        is_manifest = parts in ([DOCKER], [INDEX]) or (len(parts) == 3 and parts[0] == BLOBS)
        return is_manifest and 0 < size <= MAX_BYTES

    def read(self, name: bytes, text: bytes) -> None:
        """Read a file for which `wants` is true."""
        path = b"/".join(parts_of(name))
        if path in self._read:
            # Some readers use the first of two files with the same path, and some use the last. So use
            # neither.
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
        """`oci` or `docker`, according to the files in the archive's root; `None` for other archives."""
        if {INDEX, LAYOUT} <= self._root_names:
            return "oci"
        return "docker" if DOCKER in self._root_names else None

    def layers(self) -> set[bytes]:
        """Return the paths of the layers that Docker's manifest or the OCI index leads to."""
        layers: set[bytes] = set()
        manifests = {DOCKER} | ({INDEX} if LAYOUT in self._root_names else set())
        for _ in range(DEPTH):
            found = [item for path in manifests for item in self._named.get(path, {}).items()]
            layers |= {path for path, is_layer in found if is_layer}
            manifests = {path for path, is_layer in found if not is_layer}
        return layers


def _paths(value: object) -> Iterator[tuple[bytes, bool]]:
    """Yield the paths that Docker's manifest names. All of them are layers."""
    for image in value if isinstance(value, list) else []:
        layers = image.get("Layers") if isinstance(image, dict) else None
        for path in layers if isinstance(layers, list) else []:
            if isinstance(path, str):
                yield b"/".join(parts_of(path.encode(errors="replace"))), True


def _descriptors(value: object) -> Iterator[tuple[bytes, bool]]:
    """Yield the files that an OCI index or image manifest names, and for each file whether it is a layer.

    The layers that are not archives are left out.
    """
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
