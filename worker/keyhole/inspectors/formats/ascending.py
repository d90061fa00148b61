"""Sort arrays of map entries with little memory, and compare neighbouring entries.

Four million numbers of 32 bits take 160 MiB as a list, but only 16 MiB as an array. A long array is sorted
with a radix sort, which needs at most three times the memory of the array.

Most writers allocate blocks in ascending order, so most arrays are already sorted. `rises` checks this five
times as fast as a loop, because it compares thousands of neighbours with a few operations on long integers.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby, islice
from operator import sub
from sys import byteorder
from typing import NamedTuple

from keyhole.inspectors.effort import CALL, spend

#: An array of at most this many numbers is sorted as a list, which takes less than 3 MiB.
FEW = 65536
#: `rises` packs at most this many numbers into one long integer. An integer that contains more numbers would
#: not fit into the processor's cache.
COMPARED = 4096
#: If an array has at most this many numbers, `rises` compares them one by one, because building long integers
#: from so few numbers would take longer.
SHORT = 64
#: The number of bits that one pass of the radix sort sorts by.
DIGIT_BITS = 11


def ascending(numbers: "array[int]") -> "array[int]":
    """Return the numbers in ascending order. The numbers must not be negative."""
    spend(CALL)
    if rises(numbers, 0):
        return numbers
    if len(numbers) <= FEW:
        return array(numbers.typecode, sorted(numbers))
    mask = (1 << DIGIT_BITS) - 1
    for shift in range(0, max(numbers).bit_length(), DIGIT_BITS):
        spend(CALL)
        buckets = [array(numbers.typecode) for _ in range(mask + 1)]
        put = [bucket.append for bucket in buckets]
        for number in numbers:
            put[number >> shift & mask](number)
        put.clear()
        numbers = array(numbers.typecode)
        buckets.reverse()
        while buckets:
            numbers.extend(buckets.pop())
    return numbers


def unique(numbers: "array[int]") -> "array[int]":
    """Return the numbers in ascending order without duplicates."""
    if rises(numbers, 1):
        return numbers
    return array(numbers.typecode, (number for number, _ in groupby(ascending(numbers))))


def largest(numbers: "array[int]") -> int:
    """Return the largest number, or zero if there are no numbers. The numbers must not be negative."""
    return numbers[-1] if numbers and rises(numbers, 0) else max(numbers, default=0)


def is_range(numbers: "array[int]", start: int, step: int) -> bool:
    """Return whether the numbers are `start`, `start + step`, `start + 2 * step`, and so on."""
    if not numbers:
        return True
    ends = (start, start + step * (len(numbers) - 1))
    return (numbers[0], numbers[-1]) == ends and rises(numbers, step)


def lacking(numbers: "array[int]", others: Iterable[int]) -> "array[int]":
    """Return the numbers in `others` that are not in `numbers`. `numbers` must be in ascending order."""
    return array(numbers.typecode, (number for number in others if not _holds(numbers, number)))


def rises(numbers: "array[int]", step: int) -> bool:
    """Return whether every number is at least `step` larger than the number before it.

    Neither the numbers nor `step` must be negative.
    """
    if len(numbers) <= SHORT:
        return len(numbers) < 2 or _rises_one_by_one(numbers, step)
    return all(
        _part_rises(numbers[start : start + COMPARED], step)
        for start in range(0, len(numbers) - 1, COMPARED - 1)
    )


def _part_rises(numbers: "array[int]", step: int) -> bool:
    """Compare at least two numbers, and at most `COMPARED`; see `rises`.

    The array is read as one long integer, in which each number has its own 32 or 64 bits, a "lane". One
    subtraction of such integers then compares all pairs of neighbours. Each lane of the minuend contains the
    second number of a pair, minus `step`, with the highest bit set. The first number of the pair is
    subtracted from the lane. The highest bit is still set afterwards if the second number is at least `step`
    larger than the first number.

    The two highest bits of every number must be zero, so that the subtraction in one lane does not borrow
    from the next lane. If a number has one of these bits set, the numbers are compared one by one.
    """
    if len(numbers) <= SHORT:
        return _rises_one_by_one(numbers, step)
    lane = 8 * numbers.itemsize
    whole = int.from_bytes(memoryview(numbers).cast("B"), byteorder)
    lanes = _lanes(lane, len(numbers) - 1, step)
    if whole & lanes.reserved or step >> lane - 2:
        return _rises_one_by_one(numbers, step)
    without_last, without_first = whole & lanes.mask, whole >> lane
    if byteorder == "big":
        without_last, without_first = without_first, without_last
    return without_first + lanes.added - without_last & lanes.highest == lanes.highest


def _rises_one_by_one(numbers: "array[int]", step: int) -> bool:
    return bool(min(map(sub, islice(numbers, 1, None), numbers)) >= step)


class _Lanes(NamedTuple):
    """The constants of `_part_rises`: integers that have one lane for each pair of neighbours.

    Attributes:
        mask: All bits of each lane are set.
        highest: The highest bit of each lane is set.
        added: Each lane contains the value of its highest bit minus the step.
        reserved: The two highest bits of each lane, and of one additional lane, are set.
    """

    mask: int
    highest: int
    added: int
    reserved: int


@lru_cache(maxsize=4)
def _lanes(lane: int, pairs: int, step: int) -> _Lanes:
    """Return the constants for `pairs` pairs of neighbours and lanes of `lane` bits."""
    ones = int.from_bytes((1).to_bytes(lane // 8, "little") * (pairs + 1), "little")
    mask = (1 << lane * pairs) - 1
    highest = (ones & mask) << lane - 1
    return _Lanes(mask, highest, highest - step * (ones & mask), 3 * (ones << lane - 2))


def _holds(numbers: "array[int]", number: int) -> bool:
    at = bisect_left(numbers, number)
    return at < len(numbers) and numbers[at] == number
