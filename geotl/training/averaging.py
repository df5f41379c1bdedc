"""Averages of weights: along a training, and between two networks; batch normalisation for them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from geotl.arrays import Int64s
from geotl.data.tile_array import Pack, batch
from geotl.errors import ModelError
from geotl.models.backbone import Backbone, SteadyBatchNorm2d
from geotl.models.classifier import TileClassifier

_BLOCK = 64  # tiles whose statistics are taken together


class WeightAverage(nn.Module):
    """The running mean of some parameters, kept as buffers and so in every checkpoint.

    Stochastic weight averaging, Izmailov et al. 2018, algorithm 1.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make room for the trainable ones; the list itself is not kept as a part."""
        super().__init__()
        self._of = [p for p in parameters if p.requires_grad]
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        for number, parameter in enumerate(self._of):
            self.register_buffer(f"mean_{number}", torch.zeros_like(parameter.data))

    count: Tensor

    @torch.no_grad()
    def add(self) -> None:
        """Take in the weights as they are."""
        self.count += 1
        for mean, parameter in self._pairs():
            mean.add_((parameter - mean) / self.count)

    @torch.no_grad()
    def give(self) -> None:
        """Put the average in the place of the weights, if there is one."""
        if self.count:
            for mean, parameter in self._pairs():
                parameter.copy_(mean)

    def _pairs(self) -> Iterator[tuple[Tensor, nn.Parameter]]:
        for number, parameter in enumerate(self._of):
            yield self.get_buffer(f"mean_{number}"), parameter


@torch.no_grad()
def between(start: TileClassifier, trained: TileClassifier, share: float) -> TileClassifier:
    """A network on the straight line from a first network to the one that was trained from it.

    Weights and running statistics are (1 - share) * start + share * trained, Wortsman et al. 2022
    (WiSE-FT), eq. 1. A tensor that training left alone stays as it is, bit for bit.

    Args:
        start: the network before its training; not changed.
        trained: the same network after it; not changed.
        share: of the way, 0 to 1.
    """
    network, first = copy.deepcopy(trained), start.state_dict()
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.lerp(first[name], tensor, share))
    return network


def moving_norms(backbone: Backbone) -> list[SteadyBatchNorm2d]:
    """The batch normalisations that training moves: neither frozen nor kept in evaluation mode."""
    return [m for m in backbone.modules() if isinstance(m, SteadyBatchNorm2d) and not m.frozen]


@contextmanager
def measuring(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Within it, every pass adds to new statistics, each batch weighing the same.

    They are the plain mean over batches of each batch's mean and (unbiased) variance; the rest
    of the network should be in evaluation mode.
    """
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's sign for a cumulative mean
        norm.train()
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.train(training)


def adapt_batchnorm(
    model: TileClassifier, pack: Pack, rows: Int64s, *, folded: bool, seed: int
) -> None:
    """Measure a network's batch normalisation on other tiles than it was trained on (AdaBN).

    Li et al. 2016, "Revisiting batch normalization for practical domain adaptation". No label
    takes part. Tiles are taken in blocks at random, so that no block holds one class alone.

    Raises:
        ModelError: the network has no batch normalisation, or it is folded into the weights.
    """
    norms = [m for m in model.backbone.modules() if isinstance(m, SteadyBatchNorm2d)]
    if folded or not norms:
        why = "is folded into its weights" if folded else "does not exist"
        raise ModelError(
            f"model.adabn: batch normalisation {why} in this {model.backbone.name}, so there is "
            "nothing to measure again; set model.adabn=none, or give other weights"
        )
    order = np.random.default_rng([seed, 2]).permutation(rows)
    fill = model.normalise.fill.cpu().numpy().astype(np.float64)
    model.eval()
    with measuring(norms):
        for part in np.array_split(order, max(1, round(len(order) / _BLOCK))):
            block = batch(pack, part, fill=fill, device=model.normalise.fill.device)
            model.finish(model.frozen_part(block["image"]))
    model.eval()
