"""What reads the origin's objects in a benchmark, each in a process of its own, so that its CPU can be told.

    python -m tests.bench.contenders NAME URL CONCURRENCY < NAMES

NAMES has one name of an object a line. The process prints its result as JSON. Except Keyhole, no contender
needs Keyhole's packages; `PEERS` names what they need.
"""

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

#: What pip installs for the peers and the origin.
PEERS = ("boto3", "cryptography", "obstore", "oslo.utils", "uvloop")
BUCKET = "bench"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
#: The range that the bare clients read: what a client reads at least to see an image's header.
BARE = 64 * 1024
#: The most memory of the process, in KiB. `getrusage` would include its parent's, from before `exec`.
MOST_MEMORY = re.compile(r"VmHWM:\s+(\d+) kB")
CHUNK = 64 * 1024


def keyhole(url: str, concurrency: int) -> "Read":
    """Keyhole, from an object to its report."""
    from keyhole.api import scan_s3
    from keyhole.confinement.malloc import give_back
    from keyhole.scan.settings import ScanSettings
    from keyhole.sources.s3_access import S3Access

    give_back()  # as every scanning process of a worker does
    access = S3Access(endpoint_url=url, region="us-east-1", connections=concurrency, addressing_style="path")
    settings = ScanSettings()

    def read(name: str) -> None:
        report = scan_s3(access, BUCKET, name, None, settings)
        assert report.status == "safe", report
        report.model_dump_json()

    return in_threads(read)


def boto3_gets(url: str, concurrency: int) -> "Read":
    """One ranged GET of 64 KiB an object with boto3, without looking at the bytes."""
    client = _boto3(url, concurrency)
    return in_threads(
        lambda name: client.get_object(Bucket=BUCKET, Key=name, Range=f"bytes=0-{BARE - 1}")["Body"].read()
    )


def obstore_gets(url: str, concurrency: int) -> "Read":  # noqa: ARG001 - obstore's pool has no limit
    """The same with obstore, in threads."""
    import obstore

    store = _obstore(url)
    return in_threads(lambda name: obstore.get_range(store, name, start=0, length=BARE))


def obstore_async_gets(url: str, concurrency: int) -> "Read":  # noqa: ARG001 - obstore's pool has no limit
    """The same with obstore, in one event loop."""
    import obstore
    import uvloop

    store = _obstore(url)

    def run(names: list[str], concurrency: int) -> None:
        async def some(share: list[str]) -> None:
            for name in share:
                await obstore.get_range_async(store, name, start=0, length=BARE)

        async def all_of_them() -> None:
            await asyncio.gather(*(some(names[first::concurrency]) for first in range(concurrency)))

        uvloop.run(all_of_them())

    return run


def oslo(url: str, concurrency: int) -> "Read":
    """oslo.utils' inspectors over boto3's stream, which is closed once the format and its facts are known."""
    from oslo_utils.imageutils import format_inspector

    client = _boto3(url, concurrency)

    def read(name: str) -> None:
        body = client.get_object(Bucket=BUCKET, Key=name)["Body"]
        wrapper = format_inspector.InspectWrapper(body)
        while wrapper.read(CHUNK):
            if wrapper.format is not None:
                break
        body.close()

    return in_threads(read)


def qemu_img(url: str, concurrency: int) -> "Read":  # noqa: ARG001 - every call connects anew
    """`qemu-img info` on the object's URL."""

    def read(name: str) -> None:
        command = ["qemu-img", "info", "--output=json", f"{url}/{BUCKET}/{name}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return in_threads(read)


#: Reads these objects, so many at once.
Read = Callable[[list[str], int], None]


def in_threads(read: Callable[[str], Any]) -> Read:
    """Read objects in so many threads."""

    def run(names: list[str], concurrency: int) -> None:
        with ThreadPoolExecutor(concurrency) as threads:
            for _ in threads.map(read, names):
                pass

    return run


def _boto3(url: str, concurrency: int) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(max_pool_connections=concurrency, s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config)


def _obstore(url: str) -> Any:
    from obstore.store import S3Store

    return S3Store(
        BUCKET,
        endpoint=url,
        region="us-east-1",
        client_options={"allow_http": True},
    )


CONTENDERS = {
    contender.__name__.replace("_", "-"): contender
    for contender in (keyhole, boto3_gets, obstore_gets, obstore_async_gets, oslo, qemu_img)
}


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main(arguments: Iterable[str]) -> None:
    """Read the objects, and print the seconds, the CPU seconds, and the most memory in bytes."""
    name, url, concurrency = arguments
    os.environ.update(CREDENTIALS)
    names = sys.stdin.read().split()
    run = CONTENDERS[name](url, int(concurrency))
    run(names[: int(concurrency)], int(concurrency))  # connections, imports and caches are not measured
    print(flush=True)
    cpu, began = cpu_seconds(), time.perf_counter()
    run(names, int(concurrency))
    took = time.perf_counter() - began
    memory = int(MOST_MEMORY.findall(Path("/proc/self/status").read_text(encoding="ascii"))[0]) * 1024
    print(json.dumps({"seconds": took, "cpu": cpu_seconds() - cpu, "memory": memory}))


if __name__ == "__main__":
    main(sys.argv[1:])
