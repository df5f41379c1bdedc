"""Averages of weights: along a training, and between two networks; batch normalisation for them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from geotl.arrays import Int64s
from geotl.data.tile_array import Pack, batch
from geotl.errors import ModelError
from geotl.models.backbone import Backbone, SteadyBatchNorm2d
from geotl.models.classifier import TileClassifier

_BLOCK = 64  # tiles whose statistics are taken together


class WeightAverage(AveragedModel):
    """The running mean of some parameters, which every checkpoint holds.

    Stochastic weight averaging, Izmailov et al. 2018, algorithm 1.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make room for the trainable ones; the list itself is not kept as a part."""
        trained = [p for p in parameters if p.requires_grad]
        super().__init__(nn.ParameterList(trained))
        self.requires_grad_(False)
        self._of = trained

    def add(self) -> None:
        """Take in the weights as they are."""
        self.update_parameters(nn.ParameterList(self._of))

    @torch.no_grad()
    def give(self) -> None:
        """Put the average in the place of the weights, if there is one."""
        if self.n_averaged:
            for parameter, mean in zip(self._of, self.module.parameters(), strict=True):
                parameter.copy_(mean)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Also from checkpoints of earlier versions, which had names of their own."""
        for name in [name for name in state if name.startswith(prefix)]:
            inside = name.removeprefix(prefix)
            today = inside.replace("count", "n_averaged").replace("mean_", "module.")
            state[prefix + today] = state.pop(name)
        super()._load_from_state_dict(state, prefix, *args)


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
