"""Finds the credentials of a boto3 session, and turns errors of their source into an error of boto3.

botocore refreshes credentials when it signs a request, so every request can run a program, read a file or
call a server. If that fails, botocore raises the error of the failed call: for example, `FileNotFoundError`
for a missing token file, or `ValueError` for a program's malformed output. This module turns these errors
into `CredentialRetrievalError`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import boto3
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, CredentialRetrievalError


def find_credentials(session: boto3.Session) -> Credentials | None:
    """Return the credentials that all clients of the session use; `None` if there are none.

    Raises:
        BotoCoreError: The source of the credentials failed.
    """
    with _botos_errors("AWS configuration"):
        credentials = session.get_credentials()
    if credentials is not None:
        freeze = _guarded(credentials.get_frozen_credentials, credentials.method)
        credentials.get_frozen_credentials = freeze  # type: ignore[method-assign] # the clients have the object itself
    return credentials


def _guarded(freeze: Callable[[], ReadOnlyCredentials], method: str) -> Callable[[], ReadOnlyCredentials]:
    def guarded() -> ReadOnlyCredentials:
        with _botos_errors(method):
            frozen = freeze()
        # Refuse credentials with white space: obstore would panic, and boto3 would show the credentials in an
        # error.
        if any(part and any(map(str.isspace, part)) for part in (frozen.access_key, frozen.token)):
            raise CredentialRetrievalError(provider=method, error_msg="they contain a space or a line break")
        return frozen

    return guarded


@contextmanager
def _botos_errors(provider: str) -> Iterator[None]:
    try:
        yield
    except BotoCoreError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise CredentialRetrievalError(provider=provider, error_msg=message) from error
