"""Exercice / exercise: LeNet-5, dropout 0.3, Adam 0.01, et l'historique / and its history.

python docs/practical/check.py exercises/lenet5.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def network(bands: int, px: int, classes: int) -> nn.Module:
    """LeNet-5: 6 filters 5x5 (padding 2), pool, 16 filters 5x5, pool, then 120, 84, classes.

    Dropout of .3 after both pools and after both hidden layers, as `nn.Dropout` modules; logits
    at the end. On 1x28x28 with 10 classes it has 61,706 parameters.
    """
    raise NotImplementedError


def optimizer(made: nn.Module) -> torch.optim.Optimizer:
    """Adam, rate .01."""
    raise NotImplementedError


def plot(history: list[dict[str, float]], path: Path) -> None:
    """Draw the history that `practice.fit` returns, as a PNG file: loss and accuracy by epoch."""
    raise NotImplementedError
