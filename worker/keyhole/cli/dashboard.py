"""`keyhole dashboard`: shows verdicts, audits and workers in a browser."""

import ipaddress
import logging
import sys
from typing import TYPE_CHECKING, Final

import click

from keyhole.cli.backend import backend
from keyhole.cli.errors import ALL_SAFE, USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.service import service
from keyhole.suggestions import how_to_install

if TYPE_CHECKING:
    from keyhole.settings import Settings

log = logging.getLogger(__name__)

#: The default address. Only this machine can reach it.
HOST: Final = "127.0.0.1"
PORT: Final = 8421
#: The packages of the extra.
_EXTRA: Final = frozenset({"starlette", "uvicorn", "anyio", "h11"})


@click.command("dashboard")
@click.option("--host", default=HOST, show_default=True, help="The address on which the dashboard listens.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="The port; 0 chooses a free port.",
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Also answer requests for this host name, for example that of a proxy. Can be repeated.",
)
def dashboard_command(*, host: str, port: int, names: tuple[str, ...]) -> None:
    """Show verdicts, audits, workers and dead letters in a browser, until stopped.

    The dashboard only reads. Without KEYHOLE_DASHBOARD_TOKEN, it listens only on a loopback address such as
    127.0.0.1. With a token, users log in with it, and other addresses are possible. The dashboard itself has
    no TLS, so put a proxy with TLS in front of it if others reach it over a network.

    \b
    keyhole dashboard
    keyhole dashboard --port 0
    keyhole dashboard --host 0.0.0.0 --allow-host keyhole.example

    Exit code: 0 a signal ended the dashboard, 2 wrong usage or settings, 3 Redis or the address cannot be
    used.
    """
    settings = load_settings()
    _refuse_open_address(host, settings)
    try:
        import starlette
        import uvicorn  # noqa: F401 - only to know whether it is installed
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise CommandError(
            f"the dashboard needs the package {error.name}; run {how_to_install('dashboard')}",
            USAGE,
        ) from error
    del starlette
    with service(settings.log_level), one_line_errors(), backend(settings, work=False) as ready:
        _serve(ready, host, port, names)
    sys.exit(ALL_SAFE)


def _serve(settings: "Settings", host: str, port: int, names: tuple[str, ...]) -> None:
    from keyhole.cli.status import ANSWER_SECONDS, status_reader
    from keyhole.dashboard.access import Access, known_hosts
    from keyhole.dashboard.reader import Reader
    from keyhole.dashboard.web import Dashboard, bound, serve
    from keyhole.store.connection import connect

    client = connect(str(settings.redis_url), answer_seconds=ANSWER_SECONDS, retries=0)
    # Fail now if Redis does not answer. A running dashboard shows later failures on its pages.
    client.ping()
    token = settings.dashboard_token
    access = Access(None if token is None else token.get_secret_value(), known_hosts(host, names))
    dashboard = Dashboard(Reader(client, status_reader(settings)), access)
    try:
        listening = bound(host, port)
    except OSError as error:
        raise CommandError(f"the dashboard cannot listen on {host} port {port}: {error.strerror}") from error
    address = f"[{host}]" if ":" in host else host
    with listening:
        log.info("the dashboard is at http://%s:%d/", address, listening.getsockname()[1])
        serve(dashboard, listening)


def _refuse_open_address(host: str, settings: "Settings") -> None:
    """End the command if others could reach the dashboard without a token."""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback and settings.dashboard_token is None:
        raise CommandError(
            f"others could reach {host}, so set KEYHOLE_DASHBOARD_TOKEN to a secret, such as the output of "
            "`openssl rand -hex 24`, or listen on 127.0.0.1",
            USAGE,
        )
