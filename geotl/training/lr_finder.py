"""The learning-rate range test (Smith 2017): loss while the rate rises geometrically.

Too small a rate learns nothing, too large a one diverges; the loss falls fastest in between. Two
suggestions are made, as is usual: the rate at the steepest descent of the smoothed loss, and a
tenth of the rate at its minimum. A copy of the network is swept, so that it stays as it was.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from geotl.arrays import Float64s
from geotl.console import Progress
from geotl.errors import DataError
from geotl.models.classifier import TileClassifier
from geotl.training.features import Tiles
from geotl.training.learner import Learner
from geotl.training.settings import Training

LOWEST, HIGHEST = 1e-6, 1.0
WIDTH = 0.04  # sd of the smoothing, as a share of the steps
DIVERGED = 2.0  # times the loss of the first steps: no need to go on
FIRST = 5  # steps before the sweep, for the loss at the start


@dataclass(frozen=True)
class RateRange:
    """A sweep of learning rates.

    Attributes:
        rates: of the head, rising geometrically [n].
        loss: of each batch [n].
        smooth: the loss, smoothed [n].
        steepest: rate at the steepest descent of the smoothed loss; None where it never falls.
        tenth: a tenth of the rate at its minimum; None likewise.
    """

    rates: tuple[float, ...]
    loss: tuple[float, ...]
    smooth: tuple[float, ...]
    steepest: float | None
    tenth: float | None


def smoothed(loss: ArrayLike) -> Float64s:
    """The loss smoothed by a Gaussian to both sides alike, so that its minimum does not lag.

    What lies above the loss of the first steps counts as if it were twice that, at most: else a
    last value near infinity would drown the minimum before it.

    >>> smoothed([2.0, 2.0, 2.0, 1e9]).round(1).tolist()
    [2.0, 2.0, 2.0, 4.0]
    """
    losses = np.asarray(loss, np.float64)
    clipped = np.minimum(losses, DIVERGED * np.median(losses[:FIRST]))
    places = np.arange(len(losses))
    sd = max(0.3, WIDTH * len(losses))
    weights = np.exp(-0.5 * ((places[:, None] - places) / sd) ** 2)
    return np.asarray(weights @ clipped / weights.sum(axis=1))


def suggest(rates: ArrayLike, smooth: ArrayLike) -> tuple[float | None, float | None]:
    """(rate of the steepest descent, a tenth of the rate at the minimum) of a smoothed loss.

    None where the loss never falls by a twentieth. What comes after the minimum suggests nothing.

    >>> across = np.geomspace(1e-5, 1, 51)
    >>> falls = 2 / (1 + (across / 1e-3)) + across**2
    >>> [f"{rate:.1e}" for rate in suggest(across, falls)]
    ['1.0e-03', '1.0e-02']
    >>> suggest(across, np.ones(51) + across)
    (None, None)
    """
    x, y = np.log10(np.asarray(rates, np.float64)), np.asarray(smooth, np.float64)
    least = int(np.argmin(y)) if len(y) else 0
    if least < FIRST or y[least] > 0.95 * y[:FIRST].mean():
        return None, None
    slope = np.gradient(y, x)[:least]
    return float(10 ** x[int(np.argmin(slope))]), float(10 ** (x[least] - 1))


def range_test(
    network: TileClassifier,
    tiles: Tiles,
    training: Training,
    *,
    steps: int = 100,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    progress: Progress | None = None,
) -> RateRange:
    """Sweep the head's learning rate over the recipe's own training, on a copy of the network.

    Batches, augmentation, optimiser and the ratio of rates between stages are the training's.
    The network's weights, buffers and mode and the random generator stay what they were.

    Args:
        network: as a training would begin with; not changed.
        tiles: the training tiles.
        training: its learning rates are swept.
        steps: how many rates.
        lowest: the first rate.
        highest: the last.
        progress: called with (steps done, all steps).

    Raises:
        DataError: fewer than 20 steps, or rates that do not rise.
    """
    if steps < 20 or not 0 < lowest < highest:
        raise DataError(
            f"range test: given {steps} steps from {lowest:g} to {highest:g}; allowed: at least "
            "20 steps, from a rate above 0 to a larger one"
        )
    rates = np.geomspace(lowest, highest, steps)
    with torch.random.fork_rng(devices=[]):
        loss = _sweep(copy.deepcopy(network), tiles, training, rates, progress)
    smooth = smoothed(loss)
    steepest, tenth = suggest(rates[: len(loss)], smooth)
    return RateRange(
        tuple(rates[: len(loss)].tolist()), tuple(loss), tuple(smooth.tolist()), steepest, tenth
    )


def _sweep(
    network: TileClassifier,
    tiles: Tiles,
    training: Training,
    rates: Float64s,
    progress: Progress | None,
) -> list[float]:
    """Loss of each batch while the rate rises; stopped where it has diverged."""
    learner = Learner(network, tiles, None, training)
    learner.setup("fit")
    optimiser = learner.configure_optimizers()["optimizer"]
    ratios = [group["initial_lr"] / training.settings.lr for group in optimiser.param_groups]
    loss: list[float] = []
    for number, rate in enumerate(rates):
        for group, ratio in zip(optimiser.param_groups, ratios, strict=True):
            group["lr"] = rate * ratio
        optimiser.zero_grad()
        cost, loss_alone, _ = learner.batch_loss(*divmod(number, learner.batches))
        if not math.isfinite(float(loss_alone.detach())):
            break
        loss.append(float(loss_alone.detach()))
        cost.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress:
            progress(number + 1, len(rates))
        if number > FIRST and np.median(loss[-3:]) > DIVERGED * np.median(loss[:FIRST]):
            break
    return loss
