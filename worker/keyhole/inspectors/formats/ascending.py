"""Sorts the entries of maps in arrays. Four million numbers take 160 MiB as a list, and 16 MiB in an array.

It is a radix sort, so its memory is at most three times that of the numbers.
"""

from array import array
from bisect import bisect_left
from itertools import groupby, islice
from operator import le

from keyhole.inspectors.effort import CALL, spend

#: Up to this many numbers are sorted as a list, which takes less than 3 MiB.
FEW = 65536
#: Bits of the numbers that one pass sorts by.
DIGIT_BITS = 11


def ascending(numbers: "array[int]") -> "array[int]":
    """The numbers in ascending order. Those of maps are not negative."""
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
    """The numbers in ascending order, each once."""
    return array(numbers.typecode, (number for number, _ in groupby(ascending(numbers))))


def holds(numbers: "array[int]", number: int) -> bool:
    """Whether a number is among others that are in ascending order."""
    at = bisect_left(numbers, number)
    return at < len(numbers) and numbers[at] == number
