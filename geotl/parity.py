"""Whether an exported file says what its model says, on the model's own example tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.deployed import Deployed
from geotl.engines import Floats, Runner
from geotl.modelfile import ModelFile

BATCHES = (1, 7)
TOLERANCE = 1e-4  # of calibrated logits, for float32


@dataclass(frozen=True)
class Parity:
    """Largest differences from the model over tiles, and how often both name the same class.

    Attributes:
        tiles: how many were looked at, over all batch sizes.
        logits: largest difference of calibrated logits.
        probabilities: largest difference of probabilities.
        agreement: share of tiles named alike.
    """

    tiles: int
    logits: float
    probabilities: float
    agreement: float

    def __str__(self) -> str:
        """In one line."""
        return (
            f"parity on {self.tiles} tiles at batches of {' and '.join(map(str, BATCHES))}: logits "
            f"within {self.logits:.1e}, probabilities within {self.probabilities:.1e}, "
            f"{100 * self.agreement:.4g} % named alike"
        )


def example_tiles(model: ModelFile) -> Floats:
    """A model's example tiles [n,C,S,S], raw float32, their invalid pixels NaN."""
    companions = model.companions
    raw = companions.examples.astype(np.float32)
    return np.where(companions.example_valid, raw, np.float32(np.nan))


def compare(module: Deployed, runner: Runner, tiles: NDArray[np.float32]) -> Parity:
    """Run a file on tiles [n,C,S,S] in every batch size, the last batch short, and compare."""
    with torch.no_grad():
        wanted = [part.numpy() for part in module(torch.from_numpy(tiles))]
    apart = np.zeros(2)
    alike = []
    for size in BATCHES:
        parts = [runner(tiles[at : at + size]) for at in range(0, len(tiles), size)]
        found = [np.concatenate([part[i] for part in parts]) for i in (0, 1)]
        gaps = [np.abs(f.astype(np.float64) - w).max() for f, w in zip(found, wanted, strict=True)]
        apart = np.maximum(apart, gaps)  # NaN stays NaN
        alike.append(found[0].argmax(axis=1) == wanted[0].argmax(axis=1))
    return Parity(
        len(tiles) * len(BATCHES), float(apart[1]), float(apart[0]), float(np.mean(alike))
    )
