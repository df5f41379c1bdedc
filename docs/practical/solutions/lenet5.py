"""LeNet-5 with dropout, Adam, and its history."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from geotl.reporting.figures import curves_figure, write_png


def network(bands: int, px: int, classes: int) -> nn.Module:
    """LeNet-5 with dropout of .3 after both pools and both hidden layers."""
    return nn.Sequential(
        nn.Conv2d(bands, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Dropout(0.3),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(16 * ((px // 2 - 4) // 2) ** 2, 120),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.Linear(84, classes),
    )


def optimizer(made: nn.Module) -> torch.optim.Optimizer:
    """Adam, rate .01."""
    return torch.optim.Adam(made.parameters(), lr=0.01)


def plot(history: list[dict[str, float]], path: Path) -> None:
    """Loss and accuracy by epoch."""
    write_png(path, curves_figure(history))
