"""Sort arrays of map entries with little memory.

Four million numbers of 32 bits take 160 MiB as a list, but only 16 MiB as an array. A long array is sorted
with a radix sort, which needs at most three times the memory of the array.
"""

from array import array
from bisect import bisect_left
from itertools import groupby, islice
from operator import le

from keyhole.inspectors.effort import CALL, spend

#: An array of at most this many numbers is sorted as a list, which takes less than 3 MiB.
FEW = 65536
#: The number of bits that one pass of the radix sort sorts by.
DIGIT_BITS = 11


def ascending(numbers: "array[int]") -> "array[int]":
    """Return the numbers in ascending order. The numbers must not be negative."""
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
    """Return whether `number` is in `numbers`, which must be in ascending order."""
    at = bisect_left(numbers, number)
    return at < len(numbers) and numbers[at] == number
