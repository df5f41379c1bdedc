"""Losses: cross-entropy with class weights, the L2 penalty, and auxiliary heads on inner stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.arrays import Float64s, Int64s
from geotl.models.registry import Auxiliary, Backbone, get_backbone
from geotl.training.settings import ClassWeights


def class_weights(kind: ClassWeights, labels: Int64s, num_classes: int) -> Float64s | None:
    """Weight of each class [K]; None where all weigh the same.

    `balanced` is n / (K n_k) over the K classes present (King & Zeng 2001), so that the tiles'
    mean weight is 1; a class without tiles has weight 1.

    >>> class_weights("balanced", np.array([0, 0, 0, 1]), 2).round(3).tolist()
    [0.667, 2.0]
    """
    if kind == "none":
        return None
    if kind != "balanced":
        return np.asarray(kind, dtype=np.float64)
    counts = np.bincount(labels, minlength=num_classes)
    present = counts > 0
    weights = np.ones(num_classes)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return weights


def smoothed(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Labels [N] as shares [N, K]: 1 - e for the class, and e / K for every one.

    Label smoothing, Szegedy et al. 2016, section 7.

    >>> smoothed(torch.tensor([1]), 2, 0.1)
    tensor([[0.0500, 0.9500]])
    """
    return F.one_hot(labels, num_classes).float() * (1 - smoothing) + smoothing / num_classes


def cross_entropy(logits: Tensor, shares: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits [N, K] with shares [N, K], a weighted mean over the batch.

    With one-hot shares and class weights [K] it is PyTorch's weighted cross-entropy: the sum of
    weighted terms over the sum of their weights.

    >>> even = cross_entropy(torch.zeros(3, 4), torch.full((3, 4), 0.25))
    >>> round(even.exp().item(), 4)
    4.0
    """
    weighted = shares if weights is None else shares * weights.to(shares)
    return -(weighted * logits.log_softmax(dim=1)).sum() / weighted.sum()


def l2_penalty(parameters: Iterable[Tensor], strength: float) -> Tensor:
    """The L2 penalty strength * sum of w^2, whose gradient is 2 * strength * w.

    >>> w = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> l2_penalty([w], 0.1).backward()
    >>> w.grad
    tensor([[0.6000, 0.8000]])
    """
    squares = [p.square().sum() for p in parameters]
    return strength * torch.stack(squares).sum() if squares else torch.zeros(())


def decaying(parameters: Iterable[Tensor]) -> Sequence[Tensor]:
    """The trainable tensors of two or more dimensions: no bias, no normalisation."""
    return [p for p in parameters if p.requires_grad and p.ndim >= 2]


def active_auxiliaries(backbone: Backbone, weight: float | None) -> tuple[Auxiliary, ...]:
    """The auxiliary classifiers whose stage is trained and not the last one kept.

    Args:
        backbone: with its frozen stages already set.
        weight: of their losses; None for the papers', 0 for no auxiliary classifiers.
    """
    if weight == 0:
        return ()
    inner = [s for s in backbone.stage_names[:-1] if s not in backbone.frozen]
    return tuple(a for a in get_backbone(backbone.name).auxiliary if a.stage in inner)


class AuxiliaryHeads(nn.Module):
    """Auxiliary classifiers of one training, at random from a seed of their own."""

    def __init__(
        self, backbone: Backbone, num_classes: int, *, weight: float | None, seed: int
    ) -> None:
        """Build the classifiers that this training uses; the global generator is left alone."""
        super().__init__()
        chosen = active_auxiliaries(backbone, weight)
        self.weights = {a.stage: a.weight if weight is None else weight for a in chosen}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = nn.ModuleDict({a.stage: a.build(num_classes) for a in chosen})

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages whose outputs they read."""
        return tuple(self.weights)

    def loss(
        self, outputs: Sequence[Mapping[str, Tensor]], criterion: Callable[[Tensor], Tensor]
    ) -> Tensor | float:
        """The weighted sum of their losses, averaged over input sizes; 0.0 without any.

        Args:
            outputs: for each input size, the outputs [N, C, s, s] of `stages`.
            criterion: from logits [N, K] to the loss that the main classifier has too.
        """
        losses = [
            weight * criterion(self.heads[stage](output[stage]).float()) / len(outputs)
            for output in outputs
            for stage, weight in self.weights.items()
        ]
        return torch.stack(losses).sum() if losses else 0.0
