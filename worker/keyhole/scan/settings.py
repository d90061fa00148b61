"""The settings of a scan: the sizes of reads, the budgets and the policy."""

from dataclasses import dataclass, field
from typing import Final

from keyhole.inspectors.compression.limits import MOST_PIECE
from keyhole.scan.rules import Policy, Rule, load_policy
from keyhole.sources.meter import Budget

#: The maximum duration, in seconds, of a scan for which the policy sets `decompress`. The limit ensures that
#: scanning an object and writing its tags together take less time than a message may take (`keyhole.limits`).
FULL_SECONDS: Final = 400.0
#: The output of the slowest decoder in bytes per second: bzip2 with incompressible data.
MIN_DECODER_RATE: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """The settings of a scan: the sizes of reads in bytes, the budgets and the policy."""

    #: The length of the first GET. The first 336 KiB of an ordinary qcow2 contain everything that is read
    #: from it, including the first L2 table. The first 336 KiB of an archive contain everything before its
    #: first member. For other formats, a GET of 336 KiB takes 3 ms longer than a GET of 64 KiB
    #: (`tests/bench/reads.py --heads`).
    head_bytes: int = 336 * 1024
    #: Two ranges are fetched by one GET if the gap between them has at most this many bytes.
    gap_bytes: int = 256 * 1024
    budget: Budget = field(default_factory=Budget)
    policy: Policy = field(default_factory=lambda: load_policy("default"))
    #: The budget of a container. For each member it covers the header, the first bytes, and the other ranges
    #: that the member's format needs. An image gets the same budget if the policy requires that all of its
    #: maps are read.
    container_budget: Budget = field(
        default_factory=lambda: Budget(
            requests=1024, bytes=256 * 1024 * 1024, seconds=240.0, cpu_seconds=10.0
        )
    )

    def container_budget_by(self, rule: Rule) -> Budget:
        """Return the budget of a container under a rule. It is larger if the rule sets `decompress`."""
        budget, allowed = self.container_budget, rule.decompress
        if allowed is None:
            return budget
        return Budget(
            # Compressed data are not longer than their content, and Keyhole reads them in pieces of
            # `MOST_PIECE` bytes. So this number of further requests is enough.
            budget.requests + allowed // MOST_PIECE,
            budget.bytes + allowed,
            max(budget.seconds, FULL_SECONDS),
            max(budget.cpu_seconds, min(FULL_SECONDS, budget.cpu_seconds + allowed / MIN_DECODER_RATE)),
            budget.decompressed + allowed,
        )
