"""Auxiliary classifiers: added losses on inner stages, in training alone.

They belong to a training, not to the network: prediction and model files know nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from geotl.models.registry import Auxiliary, Backbone, get_backbone


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
            weight * criterion(self.heads[stage](held[stage]).float()) / len(outputs)
            for held in outputs
            for stage, weight in self.weights.items()
        ]
        return torch.stack(losses).sum() if losses else 0.0
