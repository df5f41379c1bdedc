"""Whether plain values, as in JSON, fit the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

MAX_INTEGER = 2**53  # larger integers are no numbers of pixels, bands or classes
_SIMPLE = frozenset({str, int, float, bool})  # the types of most values, tested first
_PLAIN: Mapping[Any, str] = {str: "text", bool: "true or false", type(None): "null"}


def faults(kind: Any, value: Any, where: str) -> Iterator[str]:
    """Reasons why a plain value is not of a type, one clause each.

    Args:
        kind: a dataclass, or a type such as its fields have.
        value: result of `json.loads`.
        where: name of the value.

    >>> list(faults(tuple[int, ...], [1, "a"], "sizes"))
    ["sizes[1] is 'a', not a whole number"]
    >>> list(faults(float | None, None, "scale")), list(faults(float, 1e999, "scale"))
    ([], ['scale is inf, not a finite number'])
    """
    if kind in _SIMPLE and _is(kind, value):
        return
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        yield from _fields(kind, value, where)
    elif origin in (types.UnionType, typing.Union):
        yield from _any_of(inside, value, where)
    elif origin is typing.Literal:
        if value not in inside or isinstance(value, bool):
            yield f"{where} is {shown(value)}; allowed: {', '.join(map(str, inside))}"
    elif origin is tuple:
        yield from _items(inside, value, where)
    elif not _is(kind, value):
        yield f"{where} is {shown(value)}, not {_named(kind)}"


def shown(value: Any) -> str:
    """A value as a message has room for.

    >>> shown("a" * 99)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."
    """
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits
        text = "a huge number"
    return text if len(text) <= 42 else f"{text[:39]}..."


def _is(kind: Any, value: Any) -> bool:
    if kind is float:
        real = isinstance(value, int | float) and not isinstance(value, bool)
        return real and abs(value) <= 1e300 and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER
    return isinstance(value, kind)


def _named(kind: Any) -> str:
    return {float: "a finite number", int: "a whole number"}.get(kind) or _PLAIN.get(kind, "that")


@functools.cache
def _types(kind: type) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _fields(kind: Any, value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{where} is {shown(value)}, not an object"
        return
    for one in dataclasses.fields(kind):
        name = f"{where}.{one.name}" if where else one.name
        if one.name in value:
            yield from faults(_types(kind)[one.name], value[one.name], name)
        elif one.default is dataclasses.MISSING:
            yield f"{name} is missing"


def _items(inside: tuple[Any, ...], value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, list | tuple):
        yield f"{where} is {shown(value)}, not a list"
        return
    if inside[-1] is not Ellipsis and len(value) != len(inside):
        yield f"{where} has {len(value)} entries, not {len(inside)}"
        return
    kinds = (inside[0],) * len(value) if inside[-1] is Ellipsis else inside
    for place, (kind, item) in enumerate(zip(kinds, value, strict=True)):
        if kind not in _SIMPLE or not _is(kind, item):
            yield from faults(kind, item, f"{where}[{place}]")


def _any_of(kinds: tuple[Any, ...], value: Any, where: str) -> Iterator[str]:
    """The faults against the first kind, if the value is of none."""
    tried = [list(faults(kind, value, where)) for kind in kinds]
    if all(tried):
        yield from tried[0]
