"""Tells systemd that the process is ready, that it is alive, and what it is doing.

systemd sets the variable `NOTIFY_SOCKET` for services with `Type=notify`. If the variable is not set, this
module sends nothing. If a service with `WatchdogSec` sends no `WATCHDOG=1` for this many seconds, systemd
restarts the service. The messages are datagrams, so that sending never waits for systemd.

Source: sd_notify(3), systemd.service(5).
"""

import os
from contextlib import suppress
from typing import Final

READY: Final = "READY=1"
ALIVE: Final = "WATCHDOG=1"
STOPPING: Final = "STOPPING=1"


def tell(*messages: str, status: str = "") -> None:
    """Send messages to systemd. Errors are ignored.

    Args:
        messages: Lines such as `READY`.
        status: A text for `systemctl status`; line breaks are replaced by spaces. With `""`, systemd shows
            no text.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # Import socket only here: a health check does not need it, and the import takes time.
    import socket  # noqa: PLC0415

    lines = (*messages, f"STATUS={' '.join(status.split())}")
    # An address that begins with `@` names an abstract socket. The kernel expects a NUL in place of the `@`.
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        to.settimeout(0)
        to.sendto("\n".join(lines).encode(errors="replace"), address)
