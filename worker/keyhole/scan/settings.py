"""How to scan an object: the sizes of reads, the budgets and the policy."""

from dataclasses import dataclass, field
from typing import Final

from keyhole.inspectors.compression.inspector import MOST_PIECE
from keyhole.scan.rules import Policy, Rule, load_policy
from keyhole.sources.meter import Budget

#: The longest scan of an object that the policy has decompressed in full, in seconds. Including the write of
#: its tags, it ends within the time limit of a message (`keyhole.limits`).
FULL_SECONDS: Final = 400.0
#: Bytes a second that the slowest decoder produces: bzip2 with data that does not compress.
MIN_DECODER_RATE: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """The length of the first GET, the gap over which two ranges are fetched as one, budgets and policy.

    336 KiB hold all that is read from a usual qcow2, including its first L2 table, and all that comes before
    the first member of an archive. For other formats, fetching them takes 3 ms longer than fetching 64 KiB
    (`tests/bench/reads.py --heads`).
    """

    head_bytes: int = 336 * 1024
    gap_bytes: int = 1024 * 1024
    budget: Budget = field(default_factory=Budget)
    policy: Policy = field(default_factory=lambda: load_policy("default"))
    #: The budget of a container: a header and a head for each member, and what each of them needs. An image
    #: has the same budget if the policy wants all of its maps read.
    container_budget: Budget = field(
        default_factory=lambda: Budget(
            requests=1024, bytes=256 * 1024 * 1024, seconds=240.0, cpu_seconds=10.0
        )
    )

    def container_budget_by(self, rule: Rule) -> Budget:
        """The budget of a container under a rule, which can have it decompressed in full."""
        budget, allowed = self.container_budget, rule.decompress
        if allowed is None:
            return budget
        return Budget(
            # Compressed data are not longer than what they hold, and are read in pieces of this length.
            budget.requests + allowed // MOST_PIECE,
            budget.bytes + allowed,
            max(budget.seconds, FULL_SECONDS),
            max(budget.cpu_seconds, min(FULL_SECONDS, budget.cpu_seconds + allowed / MIN_DECODER_RATE)),
            budget.decompressed + allowed,
        )
