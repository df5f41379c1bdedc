"""Whether a model file's contract, notes and tensors agree."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geotl.evaluation.prediction_sets import HELD_OUT
from geotl.models.plain_values import faults, shown

MAX_PX = 1 << 14  # side of a tile or of what it is resampled to
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_NOTES = ("metrics", "training", "versions", "weights")


def check_plain(kind: Any, values: Any, where: str = "") -> None:
    """Make sure that plain values fit a dataclass.

    Raises:
        ValueError: they do not.
    """
    problems = list(faults(kind, values, where))
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise ValueError(f"{problems[0]}{more}")


def demand(condition: bool, message: str) -> None:
    """Raise a ValueError with a message unless a condition is true."""
    if not condition:
        raise ValueError(message)


def check_names(contract: Mapping[str, Any]) -> None:
    """Make sure that classes, bands and sensor of a contract are such.

    Raises:
        ValueError: fewer than two classes, names that occur twice, lists of different lengths,
            a scale of 0.
    """
    classes, bands, sensor = contract["classes"], contract["bands"], contract["sensor"]
    demand(len(classes) >= 2, f"{len(classes)} classes; a model has two at least")
    for what, names in (("classes", classes), ("bands", bands)):
        twice = next((name for name in names if list(names).count(name) > 1), None)
        demand(twice is None, f"{what} contain {shown(twice)} twice")
        demand(all(names), f"{what} contain an empty name")
    demand(len(bands) > 0, "no bands")
    _as_long("colours", contract["colours"], "classes", classes)
    _as_long("wavelengths", contract["wavelengths"], "bands", bands)
    wrong = next((c for c in contract["colours"] if not _COLOUR.fullmatch(c)), None)
    demand(wrong is None, f"colour {shown(wrong)}; allowed: such as #1a2b3c")
    demand(len(sensor["bands"]) > 0 and sensor["scale"] != 0, "the sensor has no bands or scale 0")


def _as_long(what: str, one: Sequence[Any], of: str, other: Sequence[Any]) -> None:
    demand(len(one) == len(other), f"{len(one)} {what} for {len(other)} {of}")


def check_sizes(px: Sequence[int]) -> None:
    """Make sure that sides in pixels are such.

    Raises:
        ValueError: below 1, or beyond `MAX_PX`.
    """
    wrong = next((side for side in px if not 1 <= side <= MAX_PX), None)
    demand(wrong is None, f"a side of {wrong} px; allowed: 1 to {MAX_PX}")


@dataclass(frozen=True)
class _Training:
    """The fields of the note on training that are read, where there is one."""

    crs: tuple[str | None, ...] | str | None = None
    marks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Bare:
    """Statements of a bare file in place of its training tiles: see `model_file.bare`."""

    resolution_m: float | None
    mean: tuple[float, ...]
    sd: tuple[float, ...]


def check_notes(notes: Mapping[str, Any]) -> None:
    """Make sure that the notes which geotl reads are objects.

    Raises:
        ValueError: they are not.
    """
    wrong = next((name for name in _NOTES if not isinstance(notes.get(name, {}), dict)), None)
    demand(wrong is None, f"{wrong} is no object")
    check_plain(_Training, notes.get("training", {}), "training")
    check_plain(tuple[tuple[float, ...], ...] | None, notes.get(HELD_OUT), HELD_OUT)


def check_shape(
    tensors: Mapping[str, NDArray[Any]], name: str, shape: Sequence[int | None]
) -> None:
    """Make sure that an array has as many axes, and as many values along those that are given.

    Raises:
        KeyError: it is not there.
        ValueError: it does not.
    """
    there = tensors[name].shape
    fits = len(there) == len(shape) and all(
        wanted in (None, got) for wanted, got in zip(shape, there, strict=True)
    )
    shape_wanted = ", ".join("any" if n is None else str(n) for n in shape)
    demand(fits, f"{name} is of shape {list(there)}, not [{shape_wanted}]")


def check_labels(labels: NDArray[Any], classes: int) -> None:
    """Make sure that labels [m] are positions of classes.

    Raises:
        ValueError: they are not.
    """
    integers = labels.dtype.kind in "iu"
    inside = not labels.size or (integers and labels.min() >= 0 and labels.max() < classes)
    demand(bool(inside), f"labels outside 0 to {classes - 1}")


def check_above_zero(name: str, values: ArrayLike) -> None:
    """Make sure that all of these are above 0 and finite.

    Raises:
        ValueError: they are not.
    """
    array = np.asarray(values, dtype=np.float64)
    demand(
        bool(np.isfinite(array).all() and (array > 0).all()), f"{name} is not above 0 everywhere"
    )
