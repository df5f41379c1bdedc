"""What a demonstration of the lecture found: its findings, its figures as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geotl.arrays import Float64s
from geotl.evaluation.metrics import mean_interval


@dataclass(frozen=True)
class Series:
    """A line or (`dots`) a cloud of points: x and y [n], with the half height of a band, sd [n]."""

    name: str
    x: ArrayLike
    y: ArrayLike
    sd: ArrayLike | None = None
    dots: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Lines:
    """A panel of series; `marks` are vertical lines with a word, `level` a horizontal one.

    `limits` are those of y, where panels are to be compared.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    percent: bool = False
    marks: Mapping[float, str] = field(default_factory=dict)
    level: tuple[float, str] | None = None
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Bars:
    """A panel of bars: for each group the values of `names`, with sds and words at their ends."""

    title: str
    names: tuple[str, ...]
    groups: Mapping[str, Sequence[float]]
    label: str = ""
    sds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    log: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Histograms:
    """A panel of distributions over common bins."""

    title: str
    x: str
    values: Mapping[str, ArrayLike]
    bins: int = 60
    log: bool = False


@dataclass(frozen=True)
class Pictures:
    """A panel of small pictures: [h, w, 3] as they are, [h, w] in greys, a caption under each."""

    title: str
    images: tuple[NDArray[Any], ...]
    captions: tuple[str, ...] = ()
    columns: int = 3


Panel = Lines | Bars | Histograms | Pictures


@dataclass(frozen=True)
class Finding:
    """Whether a claim held, and what was measured."""

    held: bool
    measured: str


@dataclass(frozen=True)
class Shown:
    """What a demonstration gives.

    Attributes:
        findings: for each claim of the recipe, by its key.
        values: the figures behind them, plain enough for JSON.
        panels: what is drawn, side by side.
        columns: panels in a row; 0 for all.
    """

    findings: Mapping[str, Finding]
    values: Mapping[str, Any]
    panels: tuple[Panel, ...]
    columns: int = 0


@dataclass(frozen=True)
class Effect:
    """A difference between pairs that differ in one key: mean and sd over seeds.

    >>> Effect.of([0.5, 0.6, 0.7], [0.7, 0.8, 0.9]).words("accuracy")
    'accuracy 0.600 ± 0.100 -> 0.800 ± 0.100 (+0.200 ± 0.000, it rises)'
    >>> Effect.of([0.5, 0.6, 0.7], [0.6, 0.5, 0.7]).visible
    False
    """

    off: Float64s
    on: Float64s

    @classmethod
    def of(cls, off: ArrayLike, on: ArrayLike) -> Effect:
        """Of figures without and with, a pair for each seed."""
        return cls(np.asarray(off, np.float64), np.asarray(on, np.float64))

    @property
    def change(self) -> Float64s:
        """With minus without, for each seed."""
        return self.on - self.off

    @property
    def visible(self) -> bool:
        """Whether the 95 % interval of the mean change (Student's t) leaves zero out."""
        if len(self.off) < 2:
            return False
        found = mean_interval(self.change)
        return found.low > 1e-9 or found.high < -1e-9

    @property
    def rises(self) -> bool:
        """A visible rise."""
        return self.visible and float(self.change.mean()) > 0

    @property
    def falls(self) -> bool:
        """A visible fall."""
        return self.visible and float(self.change.mean()) < 0

    def words(self, what: str, digits: int = 3) -> str:
        """Both means with their sd, the mean change with its own, and what it comes to."""
        said = "it rises" if self.rises else "it falls" if self.falls else "no visible effect"
        return (
            f"{what} {spread(self.off, digits)} -> {spread(self.on, digits)} "
            f"({spread(self.change, digits, sign=True)}, {said})"
        )

    def values(self) -> dict[str, Any]:
        """Its figures, for JSON."""
        return {"off": self.off, "on": self.on, "visible": self.visible}


def spread(values: ArrayLike, digits: int = 3, *, sign: bool = False) -> str:
    """Mean ± sample sd of some figures; without sd of a single one.

    >>> spread([1.0, 2.0, 3.0], 1), spread([0.5], 2, sign=True)
    ('2.0 ± 1.0', '+0.50')
    """
    held = np.asarray(values, np.float64)
    form = f"{'+' if sign else ''}.{digits}f"
    mean = format(float(held.mean()), form)
    return f"{mean} ± {sd_of(held):.{digits}f}" if len(held) > 1 else mean


def sd_of(values: ArrayLike) -> float:
    """Sample standard deviation; nan of a single figure.

    >>> sd_of([1, 2, 3]), sd_of([1])
    (1.0, nan)
    """
    held = np.asarray(values, np.float64)
    return float(held.std(ddof=1)) if held.size > 1 else math.nan
