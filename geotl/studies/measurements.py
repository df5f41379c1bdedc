"""What a diagnosis measures, each as one record that can be written as JSON and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from geotl.evaluation.metrics import Interval, wilson
from geotl.training.capacity import Memorised
from geotl.training.lr_finder import RateRange

Count = tuple[int, int]  # tiles classified correctly, and of how many


@dataclass(frozen=True)
class HeadSetting:
    """A probe's head at one setting, from hard pressed to free.

    Attributes:
        setting: its inverse penalty, or its shrinkage.
        folds: accuracy in the folds inside the labels, where they were asked.
        train: accuracy on the training tiles, where it was fitted.
        validation: accuracy on the test tiles, likewise.
    """

    setting: float
    folds: float | None
    train: float | None = None
    validation: float | None = None


@dataclass(frozen=True)
class HeadPath:
    """A probe's learning curve: its head at every setting.

    Attributes:
        kind: logistic or discriminant.
        chosen: the setting that the folds chose.
        path: every setting, from hard pressed to free.
    """

    kind: str
    chosen: float
    path: tuple[HeadSetting, ...]


@dataclass(frozen=True)
class Standing:
    """The recipe as it is, fitted.

    Attributes:
        train: training tiles classified correctly, and of how many.
        validation: the same of test tiles.
        batchnorm: how the network uses batch normalisation.
        history: a row for each epoch, None of a probe.
        best_epoch: the weights of this epoch were kept; None of a probe.
        head: a probe's path, else None.
    """

    train: Count
    validation: Count
    batchnorm: str
    history: Sequence[Mapping[str, Any]] | None = None
    best_epoch: int | None = None
    head: HeadPath | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        fields = asdict(self)
        if self.head is not None:
            fields["head"]["path"] = [
                _known(row, ("train", "validation")) for row in self.head.path
            ]
        return fields

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Standing:
        """From a record of JSON."""
        head = fields["head"]
        if head is not None:
            rows = tuple(HeadSetting(**row) for row in head["path"])
            head = HeadPath(head["kind"], head["chosen"], rows)
        counts = {name: _count(fields[name]) for name in ("train", "validation")}
        return cls(**{**fields, **counts, "head": head})


@dataclass(frozen=True)
class OverfitCheck:
    """Tiles overfitted on purpose, with every regulariser off.

    Attributes:
        tiles: how many there were.
        steps: optimiser steps taken; 0 where a free linear head was solved for.
        accuracy: in evaluation mode, at the end.
        path: (step, accuracy in training mode, accuracy in evaluation mode).
        looked_perfect: step at which training mode showed 100 % too early; None if it did not.
        validation: test tiles classified correctly then, and of how many; None where none are.
    """

    tiles: int
    steps: int
    accuracy: float
    path: Sequence[Sequence[float]]
    looked_perfect: int | None
    validation: Count | None = None

    @classmethod
    def after(cls, result: Memorised, validation: Count | None = None) -> OverfitCheck:
        """From the result of overfitting on purpose."""
        return cls(
            result.tiles,
            result.steps,
            result.accuracy,
            result.path,
            result.looked_perfect,
            validation,
        )

    @property
    def validated(self) -> Interval:
        """Accuracy on the test tiles, with its interval."""
        return wilson(*(self.validation or (0, 0)))

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return _known(self, ("validation",))

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> OverfitCheck:
        """From a record of JSON."""
        validation = fields.get("validation")
        return cls(**{**fields, "validation": None if validation is None else _count(validation)})


@dataclass(frozen=True)
class RateSweep:
    """The range test of learning rates, or why there is none."""

    found: RateRange | None
    none: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return {"none": self.none} if self.found is None else asdict(self.found)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> RateSweep:
        """From a record of JSON."""
        return cls(None, fields["none"]) if "none" in fields else cls(RateRange(**fields))


@dataclass(frozen=True)
class Measurements:
    """All that is measured of a recipe.

    Attributes:
        standing: the recipe as it is.
        noise: tiles of noise with random labels, overfitted on purpose.
        own: training tiles, overfitted on purpose.
        rates: the range test.
    """

    standing: Standing
    noise: OverfitCheck
    own: OverfitCheck
    rates: RateSweep

    def to_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        names = ("standing", "noise", "own", "rates")
        return {name: getattr(self, name).to_dict() for name in names}


def _known(record: Any, optional: Sequence[str]) -> dict[str, Any]:
    """A record as a dict, without those of its optional values that are None."""
    fields = asdict(record)
    return {
        name: value for name, value in fields.items() if value is not None or name not in optional
    }


def _count(pair: Sequence[int]) -> Count:
    return pair[0], pair[1]
