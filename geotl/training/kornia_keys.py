"""Kornia's augmentations as a recipe lists them: names, and arguments of plain values.

Kornia is imported where a list names one: recipes without any are read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from geotl.errors import RecipeError

PLAIN = "numbers to a million, short text, true, false, and lists of these"
MAX_DEPTH = 2  # lists within lists
MAX_LENGTH = 60  # of texts and lists
MAX_NUMBER = 1e6  # a parameter beyond it would fill the memory


def stated_fault(entry: Mapping[str, Any]) -> str | None:
    """The words of a fault in a list of augmentations; None for a fault of another kind.

    Args:
        entry: an entry of `pydantic.ValidationError.errors()`.
    """
    error = entry.get("ctx", {}).get("error")
    return str(error) if isinstance(error, RecipeError) else None


def checked_step(value: object) -> dict[str, dict[str, Any]]:
    """One augmentation by name, with its arguments; a name alone takes Kornia's defaults.

    Args:
        value: a name, or {name: {argument: value}}.

    Raises:
        RecipeError: no such augmentation, or arguments that it does not take.
    """
    name, arguments = _parts(value)
    for key, given in arguments.items():
        if not _is_plain(given):
            raise RecipeError(f"{name}: {key}: given {_short(given)}; allowed: {PLAIN}")
    from geotl.training.kornia_names import fault

    if text := fault(name, arguments):
        raise RecipeError(text)
    return {name: {key: _as_lists(given) for key, given in arguments.items()}}


def _parts(value: object) -> tuple[str, dict[str, Any]]:
    if isinstance(value, str):
        return value, {}
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, arguments),) = value.items()
        arguments = {} if arguments is None else arguments
        if isinstance(name, str) and isinstance(arguments, Mapping) and _are_text(arguments):
            return name, dict(arguments)
    raise RecipeError(
        f"given {_short(value)}; allowed: a name, or one name with its arguments, such as "
        "{RandomPerspective: {p: 0.5}}"
    )


def _are_text(keys: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) for key in keys)


def _is_plain(value: object, depth: int = MAX_DEPTH) -> bool:
    if isinstance(value, list | tuple):
        few = depth > 0 and len(value) <= MAX_LENGTH
        return few and all(_is_plain(one, depth - 1) for one in value)
    if isinstance(value, str):
        return len(value) <= MAX_LENGTH and value.isprintable()
    return isinstance(value, bool | int | float) and abs(value) <= MAX_NUMBER  # nan is not


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}..."


def _as_lists(value: Any) -> Any:
    """Tuples as lists, so that a recipe that is read back is equal."""
    return [_as_lists(one) for one in value] if isinstance(value, list | tuple) else value


KorniaStep = Annotated[
    dict[str, dict[str, Any]],
    PlainValidator(checked_step),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]}),
]
