"""The credentials of a boto3 session, whose failures are always errors of boto3's.

They come from programs, files and servers, at any request: botocore refreshes them as it signs. It passes on
the errors that happen there: `FileNotFoundError` for a missing token file, `ValueError` for a program's
garbage.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import boto3
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, CredentialRetrievalError


def find_credentials(session: boto3.Session) -> Credentials | None:
    """Return the credentials that all clients of the session use; `None` if there are none.

    Raises:
        BotoCoreError: Their source does not give them.
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
        # obstore panics on these, and boto3 shows the header with them.
        if any(part and any(map(str.isspace, part)) for part in (frozen.access_key, frozen.token)):
            raise CredentialRetrievalError(provider=method, error_msg="they have a space or a line break")
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
