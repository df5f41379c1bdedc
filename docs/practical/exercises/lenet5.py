"""Exercice / exercise: LeNet-5, dropout 0.3, Adam 0.01, et l'historique / and its history.

python docs/practical/check.py exercises/lenet5.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def network(bands: int, px: int, classes: int) -> nn.Module:
    """LeNet-5 avec dropout / with dropout.

    LeNet-5 : 6 filtres 5x5 (padding 2), sous-échantillonnage, 16 filtres 5x5,
    sous-échantillonnage, puis 120, 84, classes.

    Dropout de .3 après les deux sous-échantillonnages et les deux couches cachées, en modules
    `nn.Dropout` ; des logits à la fin. Sur 1x28x28 avec 10 classes : 61 706 paramètres.

    LeNet-5: 6 filters 5x5 (padding 2), pool, 16 filters 5x5, pool, then 120, 84, classes.

    Dropout of .3 after both pools and after both hidden layers, as `nn.Dropout` modules; logits
    at the end. On 1x28x28 with 10 classes it has 61,706 parameters.
    """
    raise NotImplementedError


def optimizer(made: nn.Module) -> torch.optim.Optimizer:
    """Adam, taux / rate .01."""
    raise NotImplementedError


def plot(history: list[dict[str, float]], path: Path) -> None:
    """Tracer dans un fichier PNG l'historique que rend `practice.fit` : perte et exactitude.

    Draw the history that `practice.fit` returns, as a PNG file: loss and accuracy by epoch.
    """
    raise NotImplementedError
