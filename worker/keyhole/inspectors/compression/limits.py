"""Limits on how much of a compressed object Keyhole decompresses, and the definition of a decompression bomb.

A decompression bomb is an object that was made to exhaust the program that unpacks it. A high compression
ratio alone does not prove a bomb: a harmless disk of 10 GiB that is mostly zeros compresses to 10 MiB of
gzip, 2 MiB of xz or 320 KiB of zstd. Keyhole reports a bomb (`decompression_bomb`, unsafe) if one of these
conditions is true:

- The output exceeds the limit or is itself compressed data, is more than a hundred times as long as the
  input, and contains no disk image that would explain the ratio.
- Decompression needs more memory than `MAX_WINDOW` bytes.
- The object consists of thousands of streams that contain almost no data.
- The data are compressed three times or more. Repeated compression serves only to multiply the compression
  ratios.

If an object contains a disk image and its output exceeds the limit, the verdict is inconclusive
(`decompression_limit`). A higher limit makes a verdict possible.

If the data are compressed twice, Keyhole assumes a mistake (`nested_compression`, rejected). It decompresses
the data twice, and inspects the content as a member.
"""

from collections.abc import Callable
from dataclasses import dataclass

KIB, MIB = 1024, 1024**2

#: The default limits on output and input in bytes. At these limits, an object costs about a fifth of a second
#: of CPU time with gzip, and about half a second of transfer from S3. The limits are high enough for the
#: headers of all formats.
FREE_OUTPUT, FREE_INPUT = 64 * MIB, 32 * MIB
#: The ratio of output to input above which an object can be a bomb. Usual ratios are 10 for text and 50 for
#: logs.
BOMB_RATIO = 100
#: The largest window of a decoder in bytes. zstd by default refuses larger windows
#: (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`), and the highest preset of xz needs half as much.
MAX_WINDOW = 128 * MIB
#: The most streams of one object: `MAX_STREAMS`, and one more for each `LEAST_OF_STREAM` bytes of output.
#: Tools that compress in parallel or for random access stay below this limit, because they write one stream
#: for 64 KiB or more. eStargz writes one stream for each file.
MAX_STREAMS, LEAST_OF_STREAM = 1000, 512
#: The lengths of the first piece and of the longest pieces in bytes. For pieces of `MOST_PIECE` bytes, the
#: latency of a request is short compared with the transfer.
LEAST_PIECE, MOST_PIECE = 64 * KIB, 4 * MIB


def _unwatched(_length: int) -> None:
    """Do nothing; the default of `Decompression.watch`."""


@dataclass(frozen=True, slots=True)
class Decompression:
    """The limits on the decompression of one compressed object.

    Args:
        output: The most bytes of output.
        input: The most bytes of input.
        watch: A function that is called with the length of each step of output. It can raise an exception to
            end the inspection.
        within_another: Whether the object is the content of another compressed object.
    """

    output: int = FREE_OUTPUT
    input: int = FREE_INPUT
    watch: Callable[[int], None] = _unwatched
    within_another: bool = False
