"""A bucket with the inventories of another bucket, and listers that read the inventories."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from keyhole.intake.inventory.lister import InventoryLister
from keyhole.intake.listing import Listed
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_uri import S3Uri
from tests.intake.inventory.inventories import Inventories

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: More pages than any listing in these tests has.
MANY = 1000

OpenLister = Callable[..., InventoryLister]


@pytest.fixture
def inventories(s3: "S3Client", bucket: str) -> Inventories:
    """Writes inventories of `images` to an empty bucket that only this test uses."""
    return Inventories(s3, f"images-{uuid4().hex}", bucket)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder in which the lister stores parts. It does not exist yet."""
    return tmp_path / "parts"


@pytest.fixture
def open_lister(recorded_access: S3Access, inventories: Inventories, folder: Path) -> OpenLister:
    """Opens a lister, as another process would, on the server that records requests."""

    def open_it(manifest: S3Uri, **options: Any) -> InventoryLister:
        options = {"bucket": inventories.source} | options
        return InventoryLister(recorded_access.client, manifest, folder, **options)

    return open_it


@pytest.fixture
def listed(open_lister: OpenLister) -> Callable[..., list[Listed]]:
    """All objects that an inventory lists. A new lister reads each page."""

    def list_all(manifest: S3Uri, **options: Any) -> list[Listed]:
        page = open_lister(manifest, **options).page(None)
        found = [*page.objects]
        for _ in range(MANY):
            if page.cursor is None:
                return found
            page = open_lister(manifest, **options).page(page.cursor)
            found += page.objects
        raise AssertionError("it does not end")

    return list_all
