"""Properties of inspectors whose values are cached until the inspector receives more data."""

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar
from weakref import ReferenceType, ref

Value = TypeVar("Value")


class FactCache:
    """The cached values of the `Remembered` properties of an inspector and its parts.

    Each value is an attribute of the object that computed it, so that reading it again costs no call.
    """

    def __init__(self) -> None:
        # An inspector refers to its cache. If the cache referred to the inspector, both would stay in memory,
        # with all bytes of the regions, until Python searches for cycles.
        self._values: list[tuple[ReferenceType[object], str]] = []

    def add(self, owner: object, name: str, value: object) -> None:
        """Cache a value as the attribute `name` of `owner`."""
        vars(owner)[name] = value
        self._values.append((ref(owner), name))

    def clear(self) -> None:
        """Remove all values, so that the next reads compute them again."""
        for reference, name in self._values:
            owner = reference()
            if owner is not None:
                vars(owner).pop(name, None)
        self._values.clear()


class Remembers(Protocol):
    """An inspector, or a part of an inspector, that has `Remembered` properties."""

    @property
    def remembered(self) -> FactCache:
        """The cache of `Remembered` properties, which the inspector clears when its data change."""


class Remembered(Generic[Value]):
    """A property whose value is cached until the inspector receives bytes, a region or the object's length.

    Use it for facts that are costly to compute and requested often. The value must depend only on the bytes,
    the regions and the length.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, _owner: object, name: str) -> None:
        self._name = name

    def __get__(self, remembering: Remembers, _owner: object = None) -> Value:
        # `FactCache.add` stores the value as an attribute of `remembering` with the property's name. Because
        # this class has no `__set__`, later reads find the attribute, and do not call this method again.
        value: Value = self._compute(remembering)
        remembering.remembered.add(remembering, self._name, value)
        return value
