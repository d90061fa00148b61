"""Chooses the file of trusted CA certificates, the bundle, for both S3 clients.

The bundle is the first of these files that is set or exists: `AWS_CA_BUNDLE` (or `ca_bundle` in AWS's
configuration); `REQUESTS_CA_BUNDLE`; `SSL_CERT_FILE`; the system's store, to which companies add their own
CA; the file that comes with boto3.

boto3 trusts only the certificates in the bundle. obstore also trusts the certificates that it finds on its
own: in `SSL_CERT_FILE` and `SSL_CERT_DIR`, or else in the system's store. This module compares the
certificates to find out whether obstore trusts more certificates than boto3.
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from keyhole.reasons import Reason
from keyhole.sources.errors import ConfigurationError

#: The certificate stores of operating systems: Debian and Alpine, Fedora and RHEL, SUSE, older RHEL, BSD and
#: macOS.
SYSTEM_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


class Trust(NamedTuple):
    """The trusted certificates.

    `bundle` is the file for both clients. `obstore_finds` has the files and folders that obstore finds on its
    own and trusts.
    """

    bundle: Path
    obstore_finds: tuple[Path, ...]

    @property
    def told_to_obstore(self) -> Path | None:
        """Return the bundle; `None` if obstore finds the bundle itself.

        If obstore finds the bundle itself, Keyhole does not pass the bundle to obstore. This saves memory: an
        `S3Store` takes 0.7 MB with a bundle of usual length and 0.1 MB without a bundle.
        """
        return None if self.bundle in self.obstore_finds else self.bundle

    @property
    def holds_for_obstore(self) -> bool:
        """Return whether obstore trusts only certificates that are in the bundle."""
        others = [found for found in self.obstore_finds if found != self.bundle]
        if not others:
            return True
        trusted = _certificates(self.bundle)
        return all(_certificates(other) <= trusted for other in others)


def choose_trust(configured: str | None, environment: Mapping[str, str]) -> Trust:
    """Choose the bundle.

    Args:
        configured: The file that boto3 finds in `AWS_CA_BUNDLE` or as `ca_bundle` in AWS's configuration.
        environment: The environment's variables.

    Raises:
        ConfigurationError: A variable names a file that contains no certificates or cannot be read.
    """
    system = next((Path(store) for store in SYSTEM_STORES if Path(store).is_file()), None)
    own = [Path(environment[name]) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environment.get(name)]
    found = tuple(own or ([system] if system else []))
    named = {"AWS_CA_BUNDLE": configured} | {
        name: environment.get(name) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    }
    for name, value in named.items():
        if value:
            return Trust(_usable(name, Path(value)), found)
    return Trust(system or _shipped(), found)


def _shipped() -> Path:
    """Return the file that comes with boto3."""
    # Imported here, because botocore takes long to import, and most systems have a store.
    from botocore.httpsession import get_cert_path  # noqa: PLC0415 - see above

    return Path(str(get_cert_path(verify=True)))


def _usable(name: str, path: Path) -> Path:
    no_certificates = f"{name} names {path}, which is not a file of certificates"
    # OpenSSL would wait for a pipe, and read a device without end.
    if path.exists() and not path.is_file():
        raise ConfigurationError(Reason.REQUEST, no_certificates)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=os.fspath(path))
    except OSError as error:  # this includes ssl.SSLError, which means that the file contains no certificate
        raise ConfigurationError(Reason.REQUEST, f"{no_certificates}: {error.strerror}") from error
    return path


def _certificates(place: Path) -> set[bytes]:
    """Return the certificates in a file, or in all files of a folder that can be read."""
    found: set[bytes] = set()
    try:
        entries = place.iterdir() if place.is_dir() else [place]
        # A folder of OpenSSL contains two entries for each file: the file and a link to it. `resolve` follows
        # the link, so that each file is read only once.
        files = {entry.resolve() for entry in entries if entry.is_file()}
    except OSError:
        return found
    for file in files:
        try:
            bodies = PEM.findall(file.read_bytes())
        except OSError:
            continue
        found.update(b"".join(body.split()) for body in bodies)
    return found
