"""Sorts map entries that are held in arrays. Four million numbers take 160 MiB as a list, 16 MiB as an array.

The radix sort needs at most three times the memory of the numbers.
"""

from array import array
from bisect import bisect_left
from itertools import groupby, islice
from operator import le

from keyhole.inspectors.effort import CALL, spend

#: Up to this many numbers are sorted as a list. The list takes less than 3 MiB.
FEW = 65536
#: Bits of the numbers that one pass sorts by.
DIGIT_BITS = 11


def ascending(numbers: "array[int]") -> "array[int]":
    """Return the numbers in ascending order. Map entries are never negative."""
    spend(CALL)
    if len(numbers) <= FEW:
        return array(numbers.typecode, sorted(numbers))
    if all(map(le, numbers, islice(numbers, 1, None))):
        return numbers
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
    return array(numbers.typecode, (number for number, _ in groupby(ascending(numbers))))


def holds(numbers: "array[int]", number: int) -> bool:
    """Whether `numbers`, which are in ascending order, contain `number`."""
    at = bisect_left(numbers, number)
    return at < len(numbers) and numbers[at] == number
