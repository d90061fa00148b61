"""Lists the objects of a bucket by reading an S3 Inventory, without LIST requests."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from keyhole.intake.cursor import Cursor
from keyhole.intake.errors import ListingError
from keyhole.intake.inventory.download import counting, shown
from keyhole.intake.inventory.manifest import Manifest, read_manifest
from keyhole.intake.listing import PAGE_KEYS, Page
from keyhole.sources.meter import Meter
from keyhole.sources.s3_uri import S3Uri
from keyhole.suggestions import how_to_install

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from keyhole.intake.inventory.parts import Parts


class _AtRow(Cursor):
    inventory: str
    part: int = Field(default=0, ge=0)
    row: int = Field(default=0, ge=0)


class InventoryLister:
    """Lists the objects or versions that the bucket contained when S3 wrote the inventory.

    The rows have no defined order. Each page contains rows of one part only. When a process needs the first
    page of a part, it downloads the part and converts it to a file on its disk. The process reads all further
    pages of this part from the converted file.

    Args:
        client: A boto3 client without retries, for the bucket that contains the inventory.
        manifest_uri: The URI of the manifest, `s3://…/manifest.json`.
        folder: A private folder for the parts that are in use. The parts need a few GB. Several processes can
            share the folder.
        bucket: The name of the bucket to list.
        prefix: The prefix of the keys.
        versions: Whether to list all versions, not only the current versions.
        page_size: The maximum number of objects on a page.
    """

    ordered = False
    by_gets = True

    def __init__(
        self,
        client: "S3Client",
        manifest_uri: S3Uri,
        folder: Path,
        *,
        bucket: str,
        prefix: str = "",
        versions: bool = False,
        page_size: int = PAGE_KEYS,
    ) -> None:
        self._client = client
        self._uri = manifest_uri
        self._folder = folder
        self._bucket = bucket
        self._prefix = prefix
        self._versions = versions
        self._page_size = page_size
        self._opened: tuple[Manifest, Parts] | None = None

    def page(self, cursor: str | None) -> Page:
        """Return the page at a cursor; see `Lister.page`."""
        at = None if cursor is None else _AtRow.read(cursor)
        meter = counting()
        if self._opened is None:
            self._opened = self._open(meter)
        manifest, parts = self._opened
        if at is None:
            at = _AtRow(inventory=manifest.digest)
        elif at.inventory != manifest.digest:
            raise ListingError(f"{shown(self._uri)} was replaced during the audit; start a new audit")
        elif at.part >= len(manifest.parts):
            raise ValueError(f"{cursor!r} is not a cursor of this listing")
        if not manifest.parts:
            return Page((), None, meter.requests)
        objects, total = parts.read(at.part, at.row, self._page_size, meter)
        if at.row and at.row >= total:
            raise ValueError(f"{cursor!r} is not a cursor of this listing")
        if at.row + len(objects) < total:
            following = at.model_copy(update={"row": at.row + len(objects)})
        elif at.part + 1 < len(manifest.parts):
            following = at.model_copy(update={"part": at.part + 1, "row": 0})
        else:
            parts.forget()
            return Page(objects, None, meter.requests)
        return Page(objects, following.write(), meter.requests)

    def _open(self, meter: Meter) -> "tuple[Manifest, Parts]":
        try:
            from keyhole.intake.inventory.parts import Parts  # noqa: PLC0415 - pyarrow is an extra, and large
        except ImportError as error:
            if not str(error.name).startswith("pyarrow"):
                raise
            raise ListingError(
                f"reading an S3 Inventory requires pyarrow; run {how_to_install('inventory')}"
            ) from error
        manifest = read_manifest(self._client, self._uri, self._bucket, meter)
        parts = Parts(
            self._client,
            self._uri,
            manifest,
            self._folder,
            bucket=self._bucket,
            prefix=self._prefix,
            versions=self._versions,
        )
        return manifest, parts
