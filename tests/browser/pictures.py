"""Makes the pictures in the README and in the reference: `python -m tests.browser.pictures`.

It audits the demo's images, replaces some of them, audits them again, and takes pictures of the report.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from keyhole.demo.local_s3 import BUCKET, CREDENTIALS, demo_client, fill, local_s3
from tests.browser.chromium import Chromium, Look, Tab, chromium
from tests.e2e import commands
from tests.pages import FOLDER

#: The largest picture, in bytes.
LARGEST = 100_000
WIDTH = 1100
COLOURS = 96


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        page = report(Path(folder))
        for path in (front(browser, page), objects(browser, page)):
            shrink(path)
            size = path.stat().st_size
            print(f"{path.name}: {size} bytes")
            assert size < LARGEST


def front(browser: Chromium, page: Path) -> Path:
    """Take a picture of the beginning of the report."""
    return opened(browser, page, 820, dark=False).picture(FOLDER / "report.png")


def objects(browser: Chromium, page: Path) -> Path:
    """Take a picture of the table of objects with the section of an object."""
    tab = opened(browser, page, 640, dark=True)
    tab.page.locator("article ul a").filter(has_text="uploads/backing.qcow2").first.click()
    tab.page.evaluate("document.activeElement.blur(); document.getElementById('objects').scrollIntoView()")
    return tab.picture(FOLDER / "report-objects.png")


def shrink(path: Path, colours: int = COLOURS) -> None:
    """Reduce the colours of a picture, most of which are shades in the edges of letters."""
    with Image.open(path) as picture:
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)


def opened(browser: Chromium, page: Path, height: int, *, dark: bool) -> Tab:
    """Open the report in a window of this height."""
    tab = browser.open(page, Look(1280, dark=dark))
    tab.page.set_viewport_size({"width": WIDTH, "height": height})
    tab.page.wait_for_selector("#table[data-ready]")
    return tab


def report(folder: Path) -> Path:
    """Write the report of the second of two audits, between which some images change."""
    with local_s3() as url:
        settings = CREDENTIALS | {"KEYHOLE_S3_ENDPOINT_URL": url, "XDG_DATA_HOME": str(folder)}
        env = commands.environment(**settings)
        s3 = demo_client(url)
        fill(s3, lambda _sample: None)
        keyhole("audit", f"s3://{BUCKET}/", env=env)
        for source, key in (
            ("uploads/backing.qcow2", "images/database.qcow2"),
            ("images/azure.vhd", "images/new.vhd"),
        ):
            s3.copy_object(Bucket=BUCKET, Key=key, CopySource=f"{BUCKET}/{source}")
        s3.delete_object(Bucket=BUCKET, Key="images/virtualbox.vdi")
        keyhole("audit", f"s3://{BUCKET}/", env=env)
        latest = json.loads(keyhole("audits", "--json", env=env).splitlines()[0])["id"]
        page = folder / "report.html"
        page.write_text(keyhole("report", latest, env=env), encoding="utf-8")
        return page


def keyhole(*arguments: str, env: Mapping[str, str]) -> str:
    """Run the command, which exits with 1 if an object is not safe."""
    done = commands.keyhole(*arguments, env=env)
    assert done.returncode in {0, 1}, done.stderr.decode()
    return done.stdout.decode()


if __name__ == "__main__":
    main()
