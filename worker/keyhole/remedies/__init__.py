"""What to do about each status and reason of a verdict, in one line and in full.

`tests/remedies` runs the commands on images with the finding, and checks that the results are `safe`.
"""

from typing import Final

from keyhole.reasons import Status
from keyhole.remedies.contents import CONTENTS
from keyhole.remedies.failures import FAILURES
from keyhole.remedies.objects import OBJECTS
from keyhole.remedies.references import REFERENCES
from keyhole.remedies.remedy import Remedy, Repair

__all__ = ["ISOLATION", "REMEDIES", "STATUSES_TO_DO", "Remedy", "Repair", "what_to_do"]

#: What to do about each check of `keyhole.inspectors.findings.CHECKS` and each `keyhole.reasons.Reason`.
REMEDIES: Final[dict[str, Remedy]] = {**REFERENCES, **CONTENTS, **OBJECTS, **FAILURES}

#: What to do about an object with each status, in one line.
STATUSES_TO_DO: Final[dict[str, str]] = {
    Status.UNSAFE: "refuse the object; if you trust its origin, repair a copy as its reasons describe",
    Status.DAMAGED: "do not import the object; upload it again from its source",
    Status.REJECTED: "change the object as its reasons describe, or change the policy if it is too strict",
    Status.INCONCLUSIVE: "do not use the object until a scan decides; its reasons state what prevents that",
    Status.FAILED: "do not use the object; remove the cause of the failure, and scan it again",
    Status.UNREADABLE: "let Keyhole read the object, and scan it again",
    Status.UNRECOGNIZED: "do not import the object as an image",
    Status.SAFE: "use exactly the version of the object that has the ETag in the report",
}

#: How to run the commands of a `Repair`. Show it wherever the commands are shown.
ISOLATION: Final = (
    "Run such commands only on a copy of an image that you trust. If the image can be hostile, refuse it, or "
    "run them in a container or a virtual machine without network, secrets and other images: tools such as "
    "qemu-img open the files that an image names. Then inspect the result with Keyhole."
)

_OF_A_LATER_VERSION: Final = "do not use the object yet; a later Keyhole explains it"


def what_to_do(code: str) -> str:
    """Return one line, in the imperative, that tells a user what to do about a reason or a status.

    Args:
        code: The name of a check, the code of a `Reason`, or a status. For a code of a later version, the
            line advises to update Keyhole.
    """
    remedy = REMEDIES.get(code)
    return remedy.what_to_do if remedy else STATUSES_TO_DO.get(code, _OF_A_LATER_VERSION)
