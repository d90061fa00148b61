"""The names of objects in SARIF: locations, fingerprints, and texts in which names have no special meaning.

GitHub refuses a whole file if it contains an absolute URI with another scheme than `file`
(github/codeql-action, issue 754). So the location of `s3://bucket/key` is the relative URI `bucket/key`, with
the base `S3`. The whole name is in the message and in `logicalLocations`. GitHub also needs a line number in
each location, so every location is in line 1. It compares results between two files by
`primaryLocationLineHash`, which is therefore a hash of the object's name and the rule. In a message, SARIF
gives brackets and braces a meaning (sections 3.11.5 and 3.11.6), so brackets and braces in keys are escaped.
"""

import json
import re
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from keyhole.inspectors.text import escaped

#: The bases of relative locations.
BASES: Final = {
    "S3": {"description": {"text": "The S3 service: prepend s3:// to get the URI of the object."}}
}


def locations(target: str) -> list[dict[str, object]]:
    """Return the locations of a result. `target` is the URI of an object, or the path of a file."""
    return [
        {
            "physicalLocation": {"artifactLocation": _location(target), "region": {"startLine": 1}},
            "logicalLocations": [{"fullyQualifiedName": escaped(target), "kind": "resource"}],
        }
    ]


def fingerprints(name: list[str | None], rule: str) -> dict[str, str]:
    """Return hashes that stay the same for the same rule and the same object, in all versions of it."""
    digest = sha256(json.dumps([*name, rule]).encode("ascii")).hexdigest()
    return {"primaryLocationLineHash": f"{digest[:16]}:1", "objectAndReason/v1": digest}


def message(told: str, target: str) -> dict[str, str]:
    """Return the message of a result, which ends with the whole name of the object."""
    return {"text": literal(f"{told[:1].upper()}{told[1:].rstrip('.')}. Object: {target}")}


def literal(text: str) -> str:
    """Return a text whose brackets and braces have no meaning in a SARIF message, in one visible line."""
    return re.sub(r"([\[\]\\])", r"\\\1", escaped(text)).replace("{", "{{").replace("}", "}}")


def quoted(path: str) -> str:
    """Return a path as a part of a URI. Names of files can contain bytes that are not UTF-8."""
    try:
        return quote(path.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return quote(path.encode("utf-8", "surrogatepass"))


def _location(target: str) -> dict[str, object]:
    """Return the location of an object as a relative URI, or of a file as a path or a `file` URI."""
    scheme, separator, rest = target.partition("://")
    if separator:
        # A name that begins with a slash would be an absolute path.
        return {"uri": quoted(rest.lstrip("/")), "uriBaseId": scheme.upper()}
    return {"uri": f"file://{quoted(target)}" if target[:1] == "/" else quoted(target)}
