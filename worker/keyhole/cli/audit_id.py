"""Finds the id of an audit from a shortened id, or of the latest audit."""

from typing import Final, cast

from keyhole.cli.errors import USAGE, CommandError
from keyhole.inspectors.text import shown
from keyhole.settings import Settings
from keyhole.store import keys
from keyhole.store.connection import connect

#: An error names at most this many of the ids that begin with a shortened id.
_NAMED: Final = 5
#: The word for the audit that started last. It is no part of an id, which has hexadecimal digits.
LATEST: Final = "latest"


def full_audit_id(text: str, settings: Settings) -> str:
    """Return the only id of an audit that begins with `text`; `text` itself if no id does.

    `latest` means the audit that started last.

    Raises:
        CommandError: Several ids begin with `text`.
    """
    with connect(str(settings.redis_url)) as client:
        ids = cast("list[bytes]", client.zrange(keys.AUDITS, 0, -1))  # the client does not decode responses
    if text == LATEST and ids:
        return ids[-1].decode()
    found = [audit_id for one in ids if text and (audit_id := one.decode()).startswith(text)]
    if len(found) > 1 and text not in found:
        more = ", …" if len(found) > _NAMED else ""
        raise CommandError(
            f"several audits begin with {shown(text)}: {', '.join(found[:_NAMED])}{more}; "
            "write more of the id",
            USAGE,
        )
    return found[0] if len(found) == 1 else text


def no_audit(audit_id: str) -> CommandError:
    """Return the error for an id that no audit has."""
    return CommandError(
        f"there is no audit {shown(audit_id)}; `keyhole audits` lists them, and KEYHOLE_AUDIT_SECONDS is how "
        "long they are kept after their end",
        USAGE,
    )
