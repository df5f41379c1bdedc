"""A tile classifier as a network that names every pixel of an image of fixed size.

The windows of the image go through the classifier as tiles would, and what they say is spread to
the pixels under them with the weights of `geotl map`, so that both make the same map.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from geotl.errors import DataError
from geotl.export.deployable import Deployed
from geotl.inference.window_grid import WindowGrid

PER_UNIT = 255.0  # what comes in was divided by it
SLACK = 1e-6  # of a nodata value: division and product in float32 move it by 1.2e-7
AT_ONCE_PX = 1 << 20  # pixels of windows, as the network sees them, that are computed at once
MOST_PARTS = 64  # the network stands so often in the graph


class Spread(nn.Module):
    """Pixels / 255 float32 [1,C,S,S] to probabilities [1,1+K,S,S], channel 0 "no data".

    Raw pixels are recovered first. Those that are not finite, or the sensor's nodata, are invalid:
    their band is filled, and the pixel itself is "no data". A window counts with `min_valid` of its
    pixels valid in every band; where none counts there is "no data" too. Windows are computed in
    parts, one after another, which bounds the memory.
    """

    weight: Tensor
    inside: Tensor
    place: Tensor

    def __init__(self, single: Deployed, grid: WindowGrid, min_valid: float) -> None:
        """Spread what a classifier says of windows of a square grid of posting 1.

        Raises:
            DataError: too many windows for one graph.
        """
        super().__init__()
        self.single, self.px, self.min_valid = single, grid.px, min_valid
        nodata = float(single.network.normalise.nodata)
        self.slack = SLACK * abs(nodata) if math.isfinite(nodata) else 0.0
        largest = max(size or grid.px for size in single.network.sizes)
        self.at_once = max(1, AT_ONCE_PX // (largest**2 * len(single.views)))
        parts = -(-(len(grid.rows) ** 2) // self.at_once)
        if parts > MOST_PARTS:
            raise DataError(
                f"{len(grid.rows) ** 2} windows in a tile of {grid.height} px at a step of "
                f"{grid.step} px: {parts} parts to be computed one after another, more than "
                f"{MOST_PARTS}; take a larger step, a smaller tile, or fewer views"
            )
        weight = grid.row_weights.toarray().astype(np.float32)
        self.register_buffer("weight", torch.from_numpy(weight))  # [R,S]
        self.register_buffer("inside", torch.from_numpy((weight > 0).astype(np.float32)))
        self.register_buffer("place", torch.from_numpy(grid.rows[:, None] + np.arange(grid.px)))

    def forward(self, scaled: Tensor) -> Tensor:
        """Name every pixel of an image."""
        raw = scaled * PER_UNIT
        lost = self._lost(raw)
        whole = (~lost).float().amin(dim=(0, 1))  # [S,S]
        standard = self.single.network.normalise(torch.where(lost, float("nan"), raw))
        share = self.inside @ whole @ self.inside.T / self.px**2
        counts = (share >= self.min_valid).float()  # [R,R]
        said = self._said(standard).T.reshape(-1, *counts.shape)  # [K,R,R]
        total = self.weight.T @ counts @ self.weight
        drawn = (total > 0) & (whole > 0)
        sums = self.weight.T @ (said * counts) @ self.weight
        chances = torch.where(drawn, sums / torch.where(drawn, total, 1.0), 0.0)
        return torch.cat([(~drawn).float()[None], chances])[None]

    def _lost(self, raw: Tensor) -> Tensor:
        nodata = self.single.network.normalise.nodata
        return ~torch.isfinite(raw) | ((raw - nodata).abs() <= self.slack)

    def _said(self, standard: Tensor) -> Tensor:
        """Probabilities [R*R,K] of every window."""
        across = standard[0][:, :, self.place]  # [C,S,R,px]
        windows = across[:, self.place].permute(1, 3, 0, 2, 4).flatten(0, 1)
        parts = torch.split(windows, self.at_once)
        return torch.cat([torch.softmax(self.single.of_standard(p), dim=1) for p in parts])
