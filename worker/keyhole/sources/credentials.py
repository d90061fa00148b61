"""The credentials of a session of boto3's, which fail by an error of boto3's, whatever goes wrong.

They come from programs, files and servers, at any request: botocore refreshes them as it signs. It raises
what goes wrong there as it is: a missing token file as `FileNotFoundError`, a program's garbage as
`ValueError`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import boto3
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, CredentialRetrievalError


def find_credentials(session: boto3.Session) -> Credentials | None:
    """Return the credentials that all clients of the session use; `None` if there are none.

    Raises:
        BotoCoreError: They cannot be had from where they should come from.
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
        # obstore panics, and boto3 shows the header that it made of them.
        if any(part and any(map(str.isspace, part)) for part in (frozen.access_key, frozen.token)):
            raise CredentialRetrievalError(
                provider=method, error_msg="they hold a blank or the end of a line"
            )
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
