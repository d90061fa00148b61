"""Apple's sparse images (".sparseimage", UDSP). All fields are big-endian.

Source: libyal, libmodi, "Mac OS disk image types", section "Sparse disk image (.sparseimage) format". The
description of the index nodes and of the 64-bit fields follows the programs apfs-fuse and fsdump, which read
and write sparse images.

The disk is divided into bands of equal length, which are numbered from 1. The file contains index nodes of
4,096 bytes. The bands that a node lists follow the node.

| offset | bytes | field of the first node |
|---|---|---|
| 0 | 4 | signature `sprs` |
| 4 | 4 | version, 3 |
| 8 | 4 | band size in sectors of 512 bytes |
| 16 | 4 | low 32 bits of the virtual size in sectors |
| 20 | 8 | offset of the next node; zero in the last node |
| 28 | 8 | virtual size in sectors; zero in images that do not state it |
| 64 | 1008 x 4 | the number of each band after the node, or zero if there is no band |

| offset | bytes | field of the other nodes |
|---|---|---|
| 0 | 4 | signature `sprs` |
| 4 | 4 | number of the node, from 0 |
| 12 | 8 | offset of the next node; zero in the last node |
| 56 | 1010 x 4 | numbers of the bands after the node |

Wholeness: a writer appends bands, so the file ends with the last band of the last node. The nodes form a
chain. With the usual bands of 1 MiB, nodes are 1 GiB apart, and each node costs a range request. So for large
images Keyhole reads only the first few nodes, as a sample. Keyhole does not recognise encrypted images,
because encryption hides all of these fields.
"""

from collections.abc import Iterator, Mapping
from struct import unpack_from
from typing import NamedTuple

from keyhole.inspectors.base import FileInspector
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.fields import SECTOR
from keyhole.inspectors.findings import Finding, found
from keyhole.inspectors.region import CaptureRegion

SIGNATURE = b"sprs"
NODE_BYTES = 4096
FIRST_BANDS_AT, NEXT_BANDS_AT = 64, 56
VERSION = 3
#: At most this many nodes are read. Each node after the first node costs an additional range request.
MAX_NODES = 3


class Node(NamedTuple):
    """An index node: its offset, the offset of the next node, and the numbers of the bands after it."""

    offset: int
    next_offset: int
    bands: tuple[int, ...]

    @property
    def used(self) -> int:
        """The position of the last band in the node's list.

        The file has space for this many bands after the node.
        """
        return max((place for place, band in enumerate(self.bands, 1) if band), default=0)


class SparseImageInspector(FileInspector):
    """Apple sparse image: reads the first index node, and the next nodes of its chain."""

    NAME = "sparseimage"

    def __init__(self, tracing: bool = False) -> None:
        super().__init__(tracing)
        self.new_region("node_0", CaptureRegion(0, NODE_BYTES))

    @classmethod
    def matches_prefix(cls, prefix: bytes) -> bool:
        """Return whether an object that begins with `prefix` has the signature of a sparse image."""
        return prefix.startswith(SIGNATURE)

    @property
    def format_match(self) -> bool:
        """Whether the object begins with the signature `sprs`."""
        return self.matches_prefix(self.region("node_0").data)

    @property
    def virtual_size(self) -> int:
        """The virtual size in bytes, according to the first node; zero until this node has been read."""
        return self._sectors * SECTOR

    def post_process(self) -> None:
        """Declare a region for the next node of the chain, for at most `MAX_NODES` nodes."""
        nodes = self._nodes
        if not nodes or len(nodes) >= MAX_NODES or self.has_region(f"node_{len(nodes)}"):
            return
        if nodes[-1].next_offset >= nodes[-1].offset + NODE_BYTES:
            self.new_region(f"node_{len(nodes)}", CaptureRegion(nodes[-1].next_offset, NODE_BYTES))

    @property
    def wholeness(self) -> Wholeness:
        """`PROVEN` if the whole chain of nodes was read, `SAMPLED` if only its beginning was read."""
        nodes = self._nodes
        if not nodes or self._size is None or max(map(self._end, nodes)) > self._size:
            return Wholeness.UNCHECKED
        if not nodes[-1].next_offset:
            return Wholeness.PROVEN
        return Wholeness.SAMPLED if len(nodes) == MAX_NODES else Wholeness.UNCHECKED

    def details(self) -> Mapping[str, object]:
        """The band size, the number of bands that the disk has, and the number of bands in the read nodes."""
        if not self._nodes:
            return {}
        return {
            "band_size": self._band_bytes,
            "bands": self._disk_bands,
            "bands_seen": sum(1 for node in self._nodes for band in node.bands if band),
        }

    def checks(self) -> list[Finding]:
        """Return findings on the header, on nodes and bands in wrong places, and on duplicate bands."""
        if not self.format_match or not self.filled("node_0"):
            return []
        if not self._nodes:
            return [found("truncated", "the object ends within the sparse image's header")]
        return [*self._states(), *self._chain(), *self._bands()]

    def _states(self) -> Iterator[Finding]:
        header = self.captured("node_0")
        version = int.from_bytes(header[4:8], "big")
        low, full = unpack_from(">I8xQ", header, 16)
        if version != VERSION:
            yield found("unknown_features", f"sparse image version {version} is unknown")
        if full and low != full & 0xFFFFFFFF:
            yield found("size_mismatch", f"the header's two size fields state {low} and {full} sectors")
        if not self._band_bytes or not self._sectors:
            yield found("structure", "the virtual size or the band size is zero")

    def _chain(self) -> Iterator[Finding]:
        nodes = self._nodes
        last = nodes[-1]
        if last.next_offset and last.next_offset < self._end(last):
            yield found("metadata_overlap", "an index node overlaps the bands of the previous index node")
        elif self.filled(name := f"node_{len(nodes)}") and len(self.captured(name)) == NODE_BYTES:
            yield found("structure", "there is no index node at the offset that the previous node states")
        end = max(*map(self._end, nodes), last.next_offset + NODE_BYTES if last.next_offset else 0)
        if self._size is not None and end > self._size:
            yield found("truncated", f"the image needs {end} bytes, the object has {self._size}")

    def _bands(self) -> Iterator[Finding]:
        numbers = [band for node in self._nodes for band in node.bands if band]
        last = self._disk_bands
        if max(numbers, default=0) > last:
            yield found("structure", f"a band's number is higher than {last}, the number of the last band")
        if len(set(numbers)) < len(numbers):
            yield found("structure", "two bands have the same number")

    # The nodes

    @property
    def _nodes(self) -> list[Node]:
        """The nodes of the chain that have been read, in order."""
        nodes: list[Node] = []
        for number in range(MAX_NODES):
            data = self.captured(f"node_{number}")
            if len(data) < NODE_BYTES or not data.startswith(SIGNATURE):
                break
            link_at, bands_at = (12, NEXT_BANDS_AT) if number else (20, FIRST_BANDS_AT)
            bands = unpack_from(f">{(NODE_BYTES - bands_at) // 4}I", data, bands_at)
            next_offset = int.from_bytes(data[link_at : link_at + 8], "big")
            nodes.append(Node(self.region(f"node_{number}").offset, next_offset, bands))
        return nodes

    def _end(self, node: Node) -> int:
        """Return the offset where the bands after a node end. The disk's last band may be shorter."""
        end = node.offset + NODE_BYTES + node.used * self._band_bytes
        spare = self._disk_bands * self._band_bytes - self._sectors * SECTOR
        return end - spare if node.used and node.bands[node.used - 1] == self._disk_bands else end

    @property
    def _sectors(self) -> int:
        header = self.captured("node_0")
        if not self.format_match or len(header) < NODE_BYTES:
            return 0
        low, full = unpack_from(">I8xQ", header, 16)
        return int(full or low)

    @property
    def _band_bytes(self) -> int:
        return int.from_bytes(self.captured("node_0")[8:12], "big") * SECTOR

    @property
    def _disk_bands(self) -> int:
        """The number of bands that the whole disk has."""
        return -(-self._sectors * SECTOR // self._band_bytes) if self._band_bytes else 0
