"""Searches for an image that breaks `Inspection`, guided by the code that each input reaches.

    python -m tests.fuzz.fuzz_inspection FOLDER -max_total_time=600

FOLDER stores the inputs that reach new code. Keyhole's example images are written there first. Further
options are libFuzzer's. The fuzzer ends with status 77 at the first input for which `target.check` fails, and
stores the input as `crash-…` (the option `-artifact_prefix=` sets the folder). To run an input again, name
its file instead of the folder.

It needs atheris, which `.[dev]` installs where wheels exist: on Linux, x86-64, CPython 3.11 to 3.13.
"""

import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["keyhole.inspectors", "keyhole.scan.policy"]):
    import keyhole.inspectors
    import keyhole.scan.policy  # noqa: F401 - it must be instrumented before the target imports it

from tests.fuzz import corpus
from tests.fuzz.mutator import mutate
from tests.fuzz.sparse_input import SparseInput
from tests.fuzz.target import check

#: An input that takes longer than this, in seconds with instrumentation, is a finding.
TIMEOUT_SECONDS = 10


def changed_by_fuzzer(data: bytes, _choose: Random) -> bytes:
    """Return bytes that libFuzzer changed. It uses values that the code has compared."""
    return bytes(atheris.Mutate(data, len(data)))


def custom_mutator(data: bytes, max_size: int, seed: int) -> bytes:
    """Return the input with one of Keyhole's changes, or unchanged if the result is too long."""
    choose = Random(seed)  # noqa: S311 - to choose changes
    changed = mutate(SparseInput.decode(data), choose, OTHERS, changed_by_fuzzer).encode()
    return changed if len(changed) <= max_size else data[:max_size]


def main() -> None:
    """Write the seeds, and fuzz until the limit or a finding."""
    options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
    places = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    if not places:
        sys.exit(__doc__)
    if not places[0].is_file():
        corpus.write(places[0])
        if corpus.REGRESSIONS.is_dir():
            places.append(corpus.REGRESSIONS)
    defaults = [f"-max_len={corpus.MAX_INPUT}", f"-timeout={TIMEOUT_SECONDS}"]
    arguments = [sys.argv[0], *defaults, *options, *map(str, places)]
    atheris.Setup(arguments, check, custom_mutator=custom_mutator)
    atheris.Fuzz()


OTHERS = tuple(one.image for one in corpus.seeds().values())

if __name__ == "__main__":
    main()
