"""Divides verdicts into kinds for a page: a kind for each status of images, and one for other objects.

Some objects are certainly not disk images, such as PDFs. Their status is `unrecognized`, but nobody would
import them, so a page counts them apart from images in an unknown format. All shares on a page are therefore
shares of the images: of all objects except those that are not images.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from keyhole.reasons import STATUSES, Status

#: The name of the kind of objects that are not images.
NOT_IMAGES: Final = "not images"
#: The names of all kinds, in the order in which pages show them: the most urgent status of images first.
KINDS: Final = (*(status.value for status in STATUSES), NOT_IMAGES)


def kinds(statuses: Mapping[Status, int], not_images: int) -> dict[str, int]:
    """Return the number of objects of each kind that occurs, in the order of `KINDS`.

    `not_images` is the number of objects that are not images. `statuses` includes them, as `unrecognized`.
    """
    images = Counter(statuses) - Counter({Status.UNRECOGNIZED: not_images})
    found = {status.value: images[status] for status in STATUSES if images[status]}
    return found | ({NOT_IMAGES: not_images} if not_images else {})


def css_class(kind: str) -> str:
    """Return the CSS class of a kind."""
    return kind.replace(" ", "-")
