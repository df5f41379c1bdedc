"""Mean, standard deviation and gradient of each band of a tile, as additional features.

They are those of standardised pixels, in which the network's normalisation has put the training
mean (or the recipe's fill value) in place of invalid ones. Flips and quarter turns do not change
them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PER_BAND = 3  # mean, standard deviation, gradient


def band_statistics(standard: Tensor) -> Tensor:
    """Means, then standard deviations, then gradients [N,3C] of standardised pixels [N,C,H,W].

    A band's gradient is half the mean absolute difference of neighbours in a row plus half that of
    neighbours in a column; it is 0 along an axis of one pixel.

    >>> ramp = torch.arange(4.0).repeat(4, 1)[None, None]
    >>> [round(value, 3) for value in band_statistics(ramp)[0].tolist()]
    [1.5, 1.118, 0.5]
    """
    x = standard.float()
    mean = x.mean(dim=(2, 3))
    variance = (x - mean[:, :, None, None]).square().mean(dim=(2, 3))
    down, along = (_mean_step(x, axis) for axis in (2, 3))
    gradient = (down + along) / 2
    return torch.cat([mean, variance.sqrt(), gradient], dim=1)


def band_statistics_of_windows(standard: Tensor, side: int, step: int) -> Tensor:
    """`band_statistics` of every window of side x side, `step` apart: [N,C,H,W] to [N,3C,r,q].

    >>> image = torch.rand(1, 2, 8, 8)
    >>> one = band_statistics(image[:, :, 2:6, 4:8])
    >>> torch.allclose(band_statistics_of_windows(image, 4, 2)[:, :, 1, 2], one, atol=1e-5)
    True
    """
    x = standard.double()  # or a dark band's squares would leave nothing of its spread
    mean = F.avg_pool2d(x, side, step)
    variance = (F.avg_pool2d(x.square(), side, step) - mean.square()).clamp_min(0)
    rows, cols = mean.shape[-2:]
    gradient = torch.zeros_like(mean)
    for axis, size in ((2, (side - 1, side)), (3, (side, side - 1))):
        if side > 1:
            gradient += F.avg_pool2d(_steps(x, axis), size, step)[:, :, :rows, :cols] / 2
    return torch.cat([mean, variance.sqrt(), gradient], dim=1).float()


def _mean_step(x: Tensor, axis: int) -> Tensor:
    """Mean absolute difference [N,C] of neighbours along an axis; 0 where it has one pixel."""
    steps = _steps(x, axis)
    return steps.sum(dim=(2, 3)) / max(steps.shape[2] * steps.shape[3], 1)


def _steps(x: Tensor, axis: int) -> Tensor:
    """Absolute differences of neighbours along an axis."""
    length = x.shape[axis] - 1
    return (x.narrow(axis, 1, length) - x.narrow(axis, 0, length)).abs()
