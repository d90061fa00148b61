"""Limits: how much of a compressed image is decompressed to see what it holds, and when it is a bomb.

A bomb is an object that is made to exhaust the program that unpacks it. A high ratio does not prove one: a
disk of 10 GiB that is mostly zeros packs into 10 MiB of gzip, 2 MiB of xz or 320 KiB of zstd, and is
harmless. An object is a bomb (`decompression_bomb`, unsafe) if

- it expands more than a hundredfold, beyond the limit, and holds no disk image that would explain the ratio;
- it needs more memory than its own tools grant by default;
- it consists of thousands of streams that hold almost no data;
- it is compressed three times or more, which only multiplies the ratios.

An object that holds a disk image and is larger than the limit stays undecided (`decompression_limit`,
inconclusive); a higher limit decides it.

Double compression counts as an accident (`nested_compression`, rejected). Keyhole undoes both compressions,
and the content has a verdict of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

KIB, MIB = 1024, 1024**2

#: Bytes of output that are made of any object, and bytes of input that are read for them: about a fifth of a
#: second of CPU time with gzip, and half a second on S3. The headers of all formats lie within these bytes.
FREE_OUTPUT, FREE_INPUT = 64 * MIB, 32 * MIB
#: An unusual ratio: text shrinks to a tenth, a log to a fiftieth.
BOMB_RATIO = 100
#: Bytes of output that a decoder may refer back to. zstd accepts no more unless told to
#: (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`); the highest preset of xz needs half as much.
MAX_WINDOW = 128 * MIB
#: The most streams of one object: `MAX_STREAMS`, and one more for each `LEAST_OF_STREAM` bytes of output.
#: Tools that pack in parallel or for random access make a stream for 64 KiB or more, eStargz makes one for
#: each file.
MAX_STREAMS, LEAST_OF_STREAM = 1000, 512


def _unwatched(_length: int) -> None:
    """Ignore the length of the output."""


@dataclass(frozen=True, slots=True)
class Decompression:
    """How much may be decompressed to look at one compressed object.

    Args:
        output: The most bytes of output.
        input: The most bytes of input.
        watch: Called with the length of every piece of output; it may raise to end the inspection.
        within_another: Whether the object is the content of another compressed object.
    """

    output: int = FREE_OUTPUT
    input: int = FREE_INPUT
    watch: Callable[[int], None] = _unwatched
    within_another: bool = False
