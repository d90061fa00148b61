"""The length of a lease, which is also how long a worker can be silent."""

from typing import Final

#: The lease of an entry expires after this many seconds without a heartbeat: six times the interval between
#: heartbeats.
LEASE_SECONDS: Final = 30.0
