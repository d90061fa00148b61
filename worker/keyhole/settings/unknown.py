"""Finds settings that do not exist, and suggests what the user probably meant.

A misspelt setting can be dangerous: `KEYHOLE_BUCKET=uploads` would allow all buckets. So an argument that is
not a setting is an error, and so is an environment variable that resembles a setting. Another environment
variable that begins with `KEYHOLE_` only causes a warning. It can be a setting of a later version: if it were
an error, an operator could not go back to the previous version without changing the environment.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Final

#: How much two names must resemble each other (`difflib`). A missing letter in a name of six gives 0.9.
RESEMBLANCE: Final = 0.85
#: Variables that are not settings, but are known: the option `--debug` of the command, the password and the
#: folder in the Compose files, and variables of the tests.
_OTHERS: Final = re.compile(r"keyhole_(debug|valkey_password|config_dir|test_.*)")
#: The variables that Kubernetes sets in each container for a Service whose name begins with `keyhole`.
_SERVICE_LINK: Final = re.compile(r".*_(service_host|service_port(_.*)?|port_\d+_(tcp|udp|sctp)(_.*)?)")
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")

_log = logging.getLogger(__name__)
_told: set[str] = set()


def check_arguments(names: Iterable[str], known: Iterable[str]) -> None:
    """Check the names of settings that a program passes.

    Raises:
        ValueError: There is no setting with one of the names.
    """
    known = set(known)
    for name in names:
        if name not in known:
            from difflib import get_close_matches  # noqa: PLC0415 - most users make no mistake

            similar = get_close_matches(name, known, 1, 0.6)
            hint = f"did you mean {similar[0]}?" if similar else "`keyhole docs settings` lists all settings"
            raise ValueError(f"there is no setting {name!r}; {hint}")


def check_environment(variables: Mapping[str, str], known: Iterable[str]) -> None:
    """Check the environment variables that begin with `KEYHOLE_`. A warning is logged once in a process.

    Args:
        variables: The variables, with names in lower case.
        known: The names of the settings.

    Raises:
        ValueError: A variable is not a setting, but resembles one.
    """
    known = set(known)
    for variable, value in variables.items():
        name = variable.removeprefix("keyhole_")
        if name == variable or name in known or is_other(variable, value):
            continue
        from difflib import get_close_matches  # noqa: PLC0415 - as above

        similar = get_close_matches(name, known, 1, RESEMBLANCE)
        shown = variable.upper()
        if similar:
            raise ValueError(
                f"there is no setting {shown}; did you mean KEYHOLE_{similar[0].upper()}? Correct or unset it"
            )
        if variable not in _told:
            _told.add(variable)
            _log.warning(
                "this version of Keyhole has no setting %s, so it ignores the variable; `keyhole docs "
                "settings` lists all settings",
                shown,
            )


def is_other(variable: str, value: str) -> bool:
    """Return whether a variable is known not to be a setting."""
    return bool(
        _OTHERS.fullmatch(variable) or _SERVICE_LINK.fullmatch(variable) or _SERVICE_ADDRESS.match(value)
    )
