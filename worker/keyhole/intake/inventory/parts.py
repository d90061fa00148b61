"""Keeps the converted parts of inventories in a local folder, so that most parts are downloaded only once.

A process that needs rows of a part reads them from the part's table (`table`). If the folder does not contain
the table, the process downloads the part, verifies its MD5, and converts it to the table. To save space, the
process first removes the table of the inventory's previous part. If another process still needs the removed
table, that process creates the table again.

Several processes can share a folder. A process holds the inventory's lock while it creates a table. The
process writes the table to a temporary file, and renames the file when the table is complete. So other
processes never read an incomplete table.

If a process is killed, its files remain. The next process that creates a table of the same inventory removes
these files. In addition, each process that creates a table removes all files in the folder, of any inventory,
that were not used for a week.

Only the owner can access the folder, so Keyhole trusts the files in the folder.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import md5, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from keyhole.intake.errors import ListingError
from keyhole.intake.inventory.conversion import convert
from keyhole.intake.inventory.download import read_pieces, shown
from keyhole.intake.inventory.manifest import Manifest, Part
from keyhole.intake.inventory.part import Conversion, PartError
from keyhole.intake.inventory.table import RESERVE_BYTES, read_rows
from keyhole.intake.listing import Listed, quoted
from keyhole.sources.meter import Meter
from keyhole.sources.s3_uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: The suffixes of all files that this module creates.
TABLE, DOWNLOAD, UNFINISHED, LOCK = ".arrow", ".download", ".unfinished", ".lock"
#: Files that were not used for this many seconds are removed. Creating a table takes much less time, so files
#: in use are not removed.
FORGOTTEN_SECONDS: Final = 7 * 24 * 3600.0
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Parts:
    """The rows of an inventory's parts, filtered by bucket, prefix and versions.

    Args:
        client: A boto3 client without retries.
        uri: The URI of the manifest. The parts are in the same bucket.
        manifest: The manifest.
        folder: The folder for the tables. A missing folder is created so that only its owner can access it.
        bucket: The bucket whose objects are listed.
        prefix: The prefix of the keys.
        versions: Whether to list all versions, not only the current versions.
    """

    def __init__(
        self,
        client: "S3Client",
        uri: S3Uri,
        manifest: Manifest,
        folder: Path,
        *,
        bucket: str,
        prefix: str,
        versions: bool,
    ) -> None:
        self._client = client
        self._uri = uri
        self._manifest = manifest
        self._folder = folder
        self._bucket = bucket
        self._prefix = prefix
        self._versions = versions
        told = "\0".join((str(uri), manifest.digest, bucket, prefix, str(versions)))
        self._stem = sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def read(self, index: int, first: int, count: int, meter: Meter) -> tuple[tuple[Listed, ...], int]:
        """Return up to `count` rows of a part, starting with row `first`, and the part's number of rows.

        Raises:
            SourceError: The part cannot be read; the message states the reason.
            ListingError: The part is invalid; the message states the part and the row.
        """
        table = self._path(index)
        try:
            try:
                return self._read(table, first, count)
            except FileNotFoundError:
                with self._alone():
                    if not table.exists():
                        self._make(index, meter)
                    return self._read(table, first, count)
        except OSError as error:
            raise ListingError(f"{self._folder} cannot be used for the inventory's parts: {error}") from error
        except pa.ArrowException as error:
            raise ListingError(f"{table} is damaged ({error}); remove it") from error

    def forget(self) -> None:
        """Remove the files of this inventory.

        If this fails, ignore the error, because unused files are removed after a week anyway.
        """
        with suppress(OSError), self._alone():
            self._remove(*self._folder.glob(f"{self._stem}.*"))

    def _path(self, index: int) -> Path:
        return self._folder / f"{self._stem}.{index:05}{TABLE}"

    def _read(self, table: Path, first: int, count: int) -> tuple[tuple[Listed, ...], int]:
        os.utime(table)  # mark the table as used, so that no process removes it
        rows, total = read_rows(table, first, count)
        return tuple(map(_listed, rows)), total

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock on this inventory's files."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._stem}{LOCK}"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not _is_still_at(path, descriptor):
                    continue  # another process has removed this file: lock the new file
                os.utime(descriptor)
                yield
            finally:
                os.close(descriptor)
            return

    def _make(self, index: int, meter: Meter) -> None:
        """Remove the table of the previous part, and create the table of this part."""
        for path in self._folder.glob(f"{self._stem}.*"):
            if path.suffix != LOCK:
                self._remove(path)
        self._sweep()
        part = self._manifest.parts[index]
        where = f"part {index + 1} of {len(self._manifest.parts)} ({shown(self._uri._replace(key=part.key))})"
        download, unfinished = (self._folder / f"{self._stem}{suffix}" for suffix in (DOWNLOAD, UNFINISHED))
        try:
            self._download(part, where, download, meter)
            convert(self._conversion(part, download, unfinished))
            unfinished.replace(self._path(index))
        except PartError as error:
            row = "" if error.row is None else f", row {error.row}"
            raise ListingError(f"{where}{row}: {error}") from error
        finally:
            self._remove(download, unfinished)

    def _download(self, part: Part, where: str, path: Path, meter: Meter) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < part.size + RESERVE_BYTES:
            raise ListingError(
                f"{where}: {self._folder} has too little space for its {part.size} bytes: {free} bytes are "
                f"free, and {RESERVE_BYTES} bytes must stay free; free some space",
            )
        digest = md5(usedforsecurity=False)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in read_pieces(self._client, self._uri._replace(key=part.key), part.size, meter):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != part.md5:
            raise ListingError(f"{where}: it does not have the MD5 that the manifest states")

    def _conversion(self, part: Part, source: Path, target: Path) -> Conversion:
        return Conversion(
            source=os.fspath(source),
            target=os.fspath(target),
            size=part.size,
            file_format=self._manifest.file_format,
            columns=self._manifest.columns,
            bucket=self._bucket,
            prefix=self._prefix,
            versions=self._versions,
        )

    def _sweep(self) -> None:
        """Remove all files that were not used for a week, including those of other inventories."""
        forgotten = time.time() - FORGOTTEN_SECONDS
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if path.suffix in {TABLE, DOWNLOAD, UNFINISHED, LOCK} and path.lstat().st_mtime < forgotten:
                    self._remove(path)

    @staticmethod
    def _remove(*paths: Path) -> None:
        for path in paths:
            path.unlink(missing_ok=True)


def _listed(row: Mapping[str, Any]) -> Listed:
    modified = row["modified"]
    return Listed(
        key=row["key"],
        size=row["size"],
        etag=quoted(row["etag"]),
        last_modified=None if modified is None else EPOCH + timedelta(microseconds=modified),
        storage_class=row["storage_class"] or "STANDARD",
        version_id=row["version_id"],
    )


def _is_still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
