"""How much of a compressed image is decompressed to see what it holds, and what is a bomb.

A bomb is an object that is made to exhaust whoever unpacks it. Its ratio alone does not tell: a disk of
10 GiB that is mostly zeros packs into 10 MiB of gzip, 2 MiB of xz, 320 KiB of zstd, and nothing is wrong with
it. So it is a bomb (`decompression_bomb`, unsafe) if

- it grows a hundredfold beyond what is decompressed of it, and nothing in it is a disk image that would
  explain that;
- it needs more memory than its own tools would give it unasked;
- it is made of streams by the thousand that hold nothing;
- it is compressed three times or more, which gains nothing but the product of the ratios.

What holds a disk image and is merely more than is decompressed is left undecided (`decompression_limit`,
inconclusive): whoever allows more will know.

What is compressed twice is an accident (`nested_compression`, rejected): both are decompressed, and what lies
within has a verdict of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

KIB, MIB = 1024, 1024**2

#: Bytes that are decompressed of any object, and read of it for that: about a fifth of a second of CPU by
#: gzip, and half a second on S3. Whatever formats keep in front lies within.
FREE_OUTPUT, FREE_INPUT = 64 * MIB, 32 * MIB
#: What grows so much is compressed out of all proportion: text shrinks to a tenth, a log to a fiftieth.
BOMB_RATIO = 100
#: Bytes of what was decompressed that a decoder refers back to. zstd takes no more unless it is told to
#: (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`); the highest preset of xz needs half of it.
MAX_WINDOW = 128 * MIB
#: Streams of one object: so many, and one more for each so many bytes that came out. Tools that pack in
#: parallel or for random access make one for 64 KiB or more; eStargz one for each file.
MAX_STREAMS, LEAST_OF_STREAM = 1000, 512


def _unwatched(_length: int) -> None:
    """Nobody counts."""


@dataclass(frozen=True, slots=True)
class Decompression:
    """What may be decompressed to look at one compressed object.

    Args:
        output: The most bytes that are made of it.
        input: The most bytes that are read of it for that.
        watch: Told of every piece, of how many bytes it is; may raise to put an end to it all.
        within_another: Whether the object is all that another compressed one holds.
    """

    output: int = FREE_OUTPUT
    input: int = FREE_INPUT
    watch: Callable[[int], None] = _unwatched
    within_another: bool = False
