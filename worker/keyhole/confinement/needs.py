"""The files that a scanning process still needs after it is confined.

| purpose | files |
|---|---|
| modules and data that Python loads late | Python's prefixes, `sys.path`, Keyhole's package, `/usr`, `/lib` |
| host names | the resolver's files |
| TLS | the system's certificates, and certificates that variables or URLs name |
| botocore | `~/.aws`; credentials, rotating tokens and certificates that variables or the profile name |
| finding out which other workers are alive | `/proc` |
| S3 Inventory | a folder for an inventory's parts; the Python interpreter for the process that parses them |

A Landlock rule applies to the file that is at the path when the rule is made. It does not apply to a file
that replaces this file later. So `Needs` records the identity of each file. If a file was replaced, the rules
of the process do not allow the new file, so a new process must replace this process. Some files are replaced
regularly, such as a mounted token. If the folder of such a file is not shared with other programs, the rule
allows the whole folder, so that the process can also read the new file.
"""

import os
import ssl
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from botocore.exceptions import BotoCoreError
from botocore.session import Session

from keyhole.confinement.landlock import READ, RUN, WRITE, Access, Rule

#: Folders with libraries that are loaded late, and with other files that contain no secrets.
_FOLDERS: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/etc/crypto-policies",
    "/var/lib/ca-certificates",
    # A confined process cannot trace other processes. So the kernel denies the confined process access to the
    # memory, the environment and the open files of other processes in /proc.
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
)
#: Files that libc, OpenSSL, Python and botocore read.
_FILES: Final = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/mime.types",
    "/etc/ld.so.cache",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/boto.cfg",
    "/dev/random",
    "/dev/urandom",
)
#: Environment variables that name a file or folder for botocore, boto3, OpenSSL or OpenTelemetry.
_VARIABLES: Final = (
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CREDENTIAL_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CA_BUNDLE",
    "AWS_DATA_PATH",
    "BOTO_CONFIG",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    *(
        f"OTEL_EXPORTER_OTLP_{signal}{name}"
        for signal in ("", "TRACES_")
        for name in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")
    ),
)
#: The settings of an AWS profile that name a file.
_PROFILE_FILES: Final = ("web_identity_token_file", "ca_bundle")
#: The folder of the package `keyhole`.
_PACKAGE: Final = Path(__file__).parents[1]
#: The folders in `~/.aws` in which botocore stores tokens that it renews.
_AWS_CACHES: Final = ("sso/cache", "login/cache")
#: Folders with files of several programs. If a needed file is in one of these folders, the rule allows only
#: the file.
_SHARED: Final = frozenset(
    map(Path, ("/", "/etc", "/home", "/root", "/run", "/tmp", "/var", "/var/run", "/var/tmp", "/dev", "/opt"))  # noqa: S108 - no file is made there
)


@dataclass(frozen=True, slots=True)
class Needs:
    """The files that a process needs, and the kinds of access that it needs.

    Args:
        rules: The accesses to allow.
        credential_process: The program that the AWS profile names as the source of credentials, or `None`.
            Keyhole cannot find out which files this program needs.
        identities: For each path, the device and inode number of the file or folder; `None` if it is missing.
    """

    rules: tuple[Rule, ...]
    credential_process: str | None
    identities: tuple[tuple[Path, tuple[int, int] | None], ...]

    def replaced(self) -> Path | None:
        """Return a path whose file was replaced, created or removed after `needs` was called, or `None`."""
        return next((path for path, identity in self.identities if _identity(path) != identity), None)


def needs(*, files: Iterable[Path], urls: Iterable[str], folders: Iterable[Path]) -> Needs:
    """Return the files that this process needs.

    Args:
        files: The files that settings name.
        urls: The URLs of Redis and of the broker. Their options can name certificates.
        folders: The folders in which this process writes.
    """
    profile = list(_profile(Session()))
    rules = [
        *(Rule(Path(path), READ) for path in (*_FOLDERS, *_FILES)),
        *(Rule(path, READ) for path in _python()),
        # To import `keyhole`, Python lists the folder that contains the package.
        Rule(_PACKAGE.parent, Access.READ_DIR),
        *(Rule(path.absolute(), READ) for path in files),
        *(Rule(place, READ) for path in (*_named_by(urls), *_aws(profile)) for place in _places(path)),
        *(Rule(path, WRITE) for path in (Path(os.devnull), *folders, *_aws_caches())),
        *(Rule(path, RUN) for path in _interpreter()),
    ]
    helpers = [str(values["credential_process"]) for values in profile if "credential_process" in values]
    return Needs(
        tuple(rules),
        helpers[0] if helpers else None,
        tuple((rule.path, _identity(rule.path)) for rule in rules),
    )


def _python() -> Iterator[Path]:
    """Yield the folders of Python, the folders that it imports from, and the default certificates."""
    yield from map(Path, {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix})
    yield _PACKAGE
    # `sys.path` can contain the working directory, which can contain other files. So leave out shared
    # folders.
    yield from (entry for entry in map(Path, sys.path) if entry.is_absolute() and not _is_shared(entry))
    default = ssl.get_default_verify_paths()
    yield from (Path(path) for path in (default.openssl_cafile, default.openssl_capath))


def _interpreter() -> Iterator[Path]:
    """Yield the files that the kernel opens to execute Python: the interpreter and its dynamic loader."""
    yield Path(sys.executable)
    for pattern in ("/lib64/ld-linux*", "/lib/ld-linux*", "/lib/ld-musl*"):
        yield from Path("/").glob(pattern.removeprefix("/"))


def _named_by(urls: Iterable[str]) -> Iterator[Path]:
    """Yield the files that options of the URLs name, such as `?ssl_ca_certs=/etc/redis/ca.pem`."""
    for url in urls:
        yield from (Path(value) for _, value in parse_qsl(urlsplit(url).query) if value.startswith("/"))


def _aws(profile: Iterable[dict[str, Any]]) -> Iterator[Path]:
    """Yield the files that botocore reads: its configuration, and files that variables and profiles name."""
    yield from (_home() / name for name in (".aws/config", ".aws/credentials", ".boto"))
    for name in _VARIABLES:
        # AWS_DATA_PATH is a list of folders, like PATH.
        yield from (_expanded(one) for one in os.environ.get(name, "").split(os.pathsep) if one)
    for values in profile:
        yield from (_expanded(str(values[name])) for name in _PROFILE_FILES if name in values)


def _aws_caches() -> Iterator[Path]:
    return (_home() / ".aws" / cache for cache in _AWS_CACHES)


def _profile(session: Session) -> Iterator[dict[str, Any]]:  # botocore parses values of any type
    """Yield the profile in use, and the profiles from which it takes its credentials."""
    try:
        profiles = session.full_config["profiles"]
    except BotoCoreError:
        return  # the configuration cannot be read; the next request to S3 reports this error
    name, seen = session.profile or "default", set[str]()
    while name in profiles and name not in seen:
        seen.add(name)
        yield profiles[name]
        name = str(profiles[name].get("source_profile"))


def _places(path: Path) -> Iterator[Path]:
    """Yield the path to allow for a file or folder, and for the target if the path is a link."""
    for one in {path.absolute(), path.resolve()}:
        # Allow the folder of a file unless the folder is shared with other programs.
        yield one if one.is_dir() or _is_shared(one.parent) else one.parent


def _is_shared(folder: Path) -> bool:
    """Return whether a folder contains files of several programs."""
    return folder in _SHARED or _home().is_relative_to(folder) or Path.cwd().is_relative_to(folder)


def _home() -> Path:
    return _expanded("~")


def _expanded(path: str) -> Path:
    # If the home directory is unknown, pathlib raises an error, but `os.path.expanduser` returns the path
    # unchanged.
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
