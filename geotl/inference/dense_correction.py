"""Correction of dense features of windows towards the exact features of each window.

Where a network pads windows with zeros, their edges shift every feature that is pooled over them;
within a block there are no such edges. On windows computed in both modes the shift is measured and
corrected: feature by feature, the same for every flip and quarter turn. With least squares a few
more windows would agree, but all features move towards their mean, and the map towards its common
classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from geotl.arrays import Bools, Int64s

Kind = Literal["shift", "shift and scale"]
KINDS: tuple[Kind, ...] = ("shift", "shift and scale")  # the simpler first
MIN_WINDOWS = 24  # in each half of a sample, for a correction to be measured at all
MAX_SCALE = 4.0  # a feature that hardly varies in a sample is not drawn out further


@dataclass(frozen=True)
class Correction:
    """Factor and shift of dense features [..., D]; both [D], not standardised.

    They are those of before standardisation and before the length is set.
    """

    kind: Kind
    scale: Tensor
    shift: Tensor

    def applied(self, features: Tensor) -> Tensor:
        """Corrected features, on the device of the given ones."""
        return features * self.scale.to(features.device) + self.shift.to(features.device)

    def noted(self) -> dict[str, Any]:
        """Plain values that come back exactly by `from_note`."""
        return {"kind": self.kind, "scale": self.scale.tolist(), "shift": self.shift.tolist()}

    @property
    def digest(self) -> str:
        """SHA-256 of the values."""
        return hashlib.sha256(json.dumps(self.noted()).encode()).hexdigest()


def from_note(note: Mapping[str, Any] | None) -> Correction | None:
    """The correction that `noted` gave, None for None.

    >>> made = Correction("shift", torch.ones(2), torch.tensor([0.1, -3.0]))
    >>> from_note(json.loads(json.dumps(made.noted()))).digest == made.digest
    True
    """
    if note is None:
        return None
    return Correction(note["kind"], torch.tensor(note["scale"]), torch.tensor(note["shift"]))


def fitted(kind: Kind, dense: Tensor, exact: Tensor) -> Correction:
    """The correction after which dense features have the exact ones' mean (and spread).

    Args:
        kind: mean alone, or mean and standard deviation.
        dense: features [N,V,D] of N windows in V views, computed over the block.
        exact: the same windows, computed one by one.

    >>> dense = torch.tensor([[[0.0]], [[2.0]]])
    >>> fitted("shift and scale", dense, 3 * dense - 1).applied(dense).flatten().tolist()
    [-1.0, 5.0]
    """
    before, after = (x.detach().double().cpu().flatten(0, 1) for x in (dense, exact))
    scale = torch.ones(before.shape[-1], dtype=torch.float64)
    if kind == "shift and scale":
        spread, wanted = before.std(dim=0, correction=0), after.std(dim=0, correction=0)
        ratio = (wanted / spread).clamp(1 / MAX_SCALE, MAX_SCALE)
        scale = torch.where(spread > 0, ratio, scale)
    shift = after.mean(dim=0) - scale * before.mean(dim=0)
    return Correction(kind, scale.float(), shift.float())


@dataclass(frozen=True)
class Sample:
    """Windows computed in both modes.

    Attributes:
        dense: features [N,V,D], not standardised, computed over the block.
        exact: the same, computed window by window.
        half: bool [N]: which of two halves, in different areas, a window belongs to.
    """

    dense: Tensor
    exact: Tensor
    half: Bools


@dataclass(frozen=True)
class Agreement:
    """How often both modes predict the same class, on windows not used for the correction.

    Attributes:
        correction: fitted to all windows of the sample; None where none helps.
        agreement: share of equal classes, each half with the correction of the other.
        plain: share of equal classes without a correction.
        windows: number of windows in the sample.
    """

    correction: Correction | None
    agreement: float
    plain: float
    windows: int


def measured_agreement(sample: Sample, name: Callable[[Tensor], Int64s]) -> Agreement:
    """The correction, none among them, that names most windows as exact mode does.

    Args:
        sample: windows computed in both modes.
        name: classes [N] of features [N,V,D] that are not standardised.
    """
    wanted, windows = name(sample.exact), len(sample.half)
    plain = float((name(sample.dense) == wanted).mean())
    best: tuple[float, Kind | None] = (plain, None)
    if min(int(sample.half.sum()), int((~sample.half).sum())) >= MIN_WINDOWS:
        for kind in KINDS:
            held_out = _held_out(kind, sample, name, wanted)
            best = max(best, (held_out, kind), key=lambda entry: entry[0])
    agreement, chosen = best
    correction = fitted(chosen, sample.dense, sample.exact) if chosen else None
    return Agreement(correction, agreement, plain, windows)


def _held_out(
    kind: Kind,
    sample: Sample,
    name: Callable[[Tensor], Int64s],
    wanted: Int64s,
) -> float:
    """Share of windows with the wanted class after the correction fitted on the other half."""
    same = 0
    for half in (sample.half, ~sample.half):
        fit_half, tested = torch.from_numpy(~half), torch.from_numpy(half)
        fit = fitted(kind, sample.dense[fit_half], sample.exact[fit_half])
        same += int((name(fit.applied(sample.dense[tested])) == wanted[half]).sum())
    return same / len(wanted)
