"""The files that a scanning process needs, though it has imported what it runs before it is confined.

| for | files |
|---|---|
| Python: modules, time zones and data files that are loaded late | the prefixes, `sys.path`, our own package, `/usr`, `/lib` |
| names and TLS | the resolver's files, the certificates of the system, those that variables or URLs name |
| botocore | `~/.aws` and what variables and the profile name: credentials, tokens that rotate, certificates |
| which other workers live | `/proc` |
| the parts of an inventory | a folder of its own, and Python to run, which reads them in a process of its own |

A rule for a file holds for that very file, and not for one that is put in its place. They are listed in
`Needs`, so that a process can tell when it must be replaced. Where the folder of a file is there for it alone,
like that of a mounted token, the folder is allowed.
"""  # noqa: E501 - the rows of the table are one line each

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

#: Libraries that are loaded late, and what nobody keeps secret.
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
    # Of other processes the kernel shows here no more than their state: it does not let us trace them.
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
)
#: What libc, OpenSSL and Python read by name.
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
#: Variables that name a file, or a folder, of botocore's, OpenSSL's or boto3's.
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
)
#: Of a profile: what names a file.
_PROFILE_FILES: Final = ("web_identity_token_file", "ca_bundle")
#: Our own package.
_PACKAGE: Final = Path(__file__).parents[1]
#: Where botocore keeps tokens that it renews.
_AWS_CACHES: Final = ("sso/cache", "login/cache")
#: Folders that hold more than one program's files, so that none of them is allowed for the sake of a file.
_SHARED: Final = frozenset(
    map(Path, ("/", "/etc", "/home", "/root", "/run", "/tmp", "/var", "/var/run", "/var/tmp", "/dev", "/opt"))  # noqa: S108 - no file is made there
)


@dataclass(frozen=True, slots=True)
class Needs:
    """The files that a process needs, and how it needs them.

    Args:
        rules: What is allowed.
        credential_process: The program that botocore runs for credentials, if the profile names one. Nobody
            knows what that one needs.
        identities: Which file or folder was at each path.
    """

    rules: tuple[Rule, ...]
    credential_process: str | None
    identities: tuple[tuple[Path, tuple[int, int] | None], ...]

    def replaced(self) -> Path | None:
        """A path where there is another file now than the one that was allowed; `None` if there is none."""
        return next((path for path, identity in self.identities if _identity(path) != identity), None)


def needs(*, files: Iterable[Path], urls: Iterable[str], folders: Iterable[Path]) -> Needs:
    """What this process needs.

    Args:
        files: Files that settings name.
        urls: Of Redis and the broker; their options can name certificates.
        folders: Where this process writes.
    """
    profile = list(_profile(Session()))
    rules = [
        *(Rule(Path(path), READ) for path in (*_FOLDERS, *_FILES)),
        *(Rule(path, READ) for path in _python()),
        # Whoever imports our package looks for its name there.
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
    """Python itself, and where it imports from."""
    yield from map(Path, {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix})
    yield _PACKAGE
    # The folder that this process was started in is in `sys.path`, and may hold anything.
    yield from (entry for entry in map(Path, sys.path) if entry.is_absolute() and not _is_shared(entry))
    default = ssl.get_default_verify_paths()
    yield from (Path(path) for path in (default.openssl_cafile, default.openssl_capath))


def _interpreter() -> Iterator[Path]:
    """What the kernel opens to run Python: the program, and the loader that it names."""
    yield Path(sys.executable)
    for pattern in ("/lib64/ld-linux*", "/lib/ld-linux*", "/lib/ld-musl*"):
        yield from Path("/").glob(pattern.removeprefix("/"))


def _named_by(urls: Iterable[str]) -> Iterator[Path]:
    """The files that the options of URLs name, such as `?ssl_ca_certs=/etc/redis/ca.pem`."""
    for url in urls:
        yield from (Path(value) for _, value in parse_qsl(urlsplit(url).query) if value.startswith("/"))


def _aws(profile: Iterable[dict[str, Any]]) -> Iterator[Path]:
    """What botocore reads: its folder, and what variables and profiles name."""
    yield from (_home() / name for name in (".aws/config", ".aws/credentials", ".boto"))
    for name in _VARIABLES:
        # AWS_DATA_PATH is a list, as PATH is.
        yield from (_expanded(one) for one in os.environ.get(name, "").split(os.pathsep) if one)
    for values in profile:
        yield from (_expanded(str(values[name])) for name in _PROFILE_FILES if name in values)


def _aws_caches() -> Iterator[Path]:
    return (_home() / ".aws" / cache for cache in _AWS_CACHES)


def _profile(session: Session) -> Iterator[dict[str, Any]]:  # values of any type, as botocore parses them
    """The profile in use, and those that it takes its credentials from."""
    try:
        profiles = session.full_config["profiles"]
    except BotoCoreError:
        return  # it cannot be read; whoever asks S3 next is told so
    name, seen = session.profile or "default", set[str]()
    while name in profiles and name not in seen:
        seen.add(name)
        yield profiles[name]
        name = str(profiles[name].get("source_profile"))


def _places(path: Path) -> Iterator[Path]:
    """Where a file is, and where it really is if that is a link."""
    for one in {path.absolute(), path.resolve()}:
        # The folder of a file if it is there for that file alone, or else the file.
        yield one if one.is_dir() or _is_shared(one.parent) else one.parent


def _is_shared(folder: Path) -> bool:
    """Whether a folder holds more than one program's files."""
    return folder in _SHARED or _home().is_relative_to(folder) or Path.cwd().is_relative_to(folder)


def _home() -> Path:
    return _expanded("~")


def _expanded(path: str) -> Path:
    # Where nobody knows the home, pathlib raises; this leaves the path as it is.
    return Path(os.path.expanduser(path))  # noqa: PTH111 - as said


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
