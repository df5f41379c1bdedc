"""Whether an exported file says what its model says, on the model's own example tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from geotl.arrays import Float32s
from geotl.export.deployable import Deployed
from geotl.export.graphs import running
from geotl.inference.engines import Runner
from geotl.models.model_file import ModelFile

Precision = Literal["float32", "float16", "int8"]
BATCHES = (1, 7)
ROUNDINGS = 4 * float(np.finfo(np.float32).eps)  # of the largest logit, which no runtime avoids


@dataclass(frozen=True)
class Limits:
    """How far a file may be from its model.

    Attributes:
        logits: largest difference of calibrated logits.
        probabilities: largest difference of probabilities.
        agreement: least share of tiles named alike.
    """

    logits: float = math.inf
    probabilities: float = 1.0
    agreement: float = 0.0


# float32: the order of sums differs between runtimes. float16: probabilities were seen 0.005 apart
# on EuroSAT's tiles (docs/BENCHMARKS.md). int8: 0.27 apart on a tile near a tie, and 1 in 60 named
# otherwise; there the limits only catch what is broken, and accuracy is judged on labelled tiles.
LIMITS: dict[Precision, Limits] = {
    "float32": Limits(logits=1e-4),
    "float16": Limits(probabilities=0.03, agreement=0.95),
    "int8": Limits(probabilities=0.5, agreement=0.8),
}


@dataclass(frozen=True)
class Parity:
    """Largest differences from the model over tiles, and how often both name the same class.

    Attributes:
        tiles: how many were looked at, over all batch sizes.
        logits: largest difference of calibrated logits.
        probabilities: largest difference of probabilities.
        agreement: share of tiles named alike.
        largest: the model's largest logit, sign aside; over 200 their rounding exceeds 1e-4.
    """

    tiles: int
    logits: float
    probabilities: float
    agreement: float
    largest: float = 0.0

    def fault(self, limits: Limits) -> str | None:
        """What is beyond the limits, in words; None where nothing is. NaN is beyond all."""
        allowed = max(limits.logits, ROUNDINGS * self.largest)
        if not self.logits <= allowed:
            return f"logits {self.logits:.2g} from the model's, more than {allowed:.2g}"
        if not self.probabilities <= limits.probabilities:
            return (
                f"probabilities {self.probabilities:.2g} from the model's, more than "
                f"{limits.probabilities:g}"
            )
        if not self.agreement >= limits.agreement:
            return (
                f"only {100 * self.agreement:.3g} % of its example tiles are named as the model "
                f"does, fewer than {100 * limits.agreement:g} %"
            )
        return None

    def __str__(self) -> str:
        """In one line."""
        return (
            f"parity on {self.tiles} tiles at batches of {' and '.join(map(str, BATCHES))}: logits "
            f"within {self.logits:.1e}, probabilities within {self.probabilities:.1e}, "
            f"{100 * self.agreement:.4g} % named alike"
        )


def example_tiles(model: ModelFile) -> Float32s:
    """A model's example tiles [n,C,S,S], raw float32, their invalid pixels NaN."""
    companions = model.companions
    raw = companions.examples.astype(np.float32)
    return np.where(companions.example_valid, raw, np.float32(np.nan))


def compare(module: Deployed, runner: Runner, tiles: Float32s) -> Parity:
    """Run a file on tiles [n,C,S,S] in every batch size, the last batch short, and compare."""
    wanted = _in_batches(running(module), tiles, max(BATCHES))
    apart = np.zeros(2)
    alike = []
    for size in BATCHES:
        found = _in_batches(runner, tiles, size)
        gaps = [np.abs(f.astype(np.float64) - w).max() for f, w in zip(found, wanted, strict=True)]
        apart = np.maximum(apart, gaps)  # NaN stays NaN
        alike.append(found[0].argmax(axis=1) == wanted[0].argmax(axis=1))
    return Parity(
        len(tiles) * len(BATCHES),
        float(apart[1]),
        float(apart[0]),
        float(np.mean(alike)),
        float(np.abs(wanted[1]).max()),
    )


def _in_batches(runner: Runner, tiles: Float32s, size: int) -> tuple[Float32s, Float32s]:
    """Probabilities and logits of all tiles, so many at a time."""
    parts = [runner(tiles[at : at + size]) for at in range(0, len(tiles), size)]
    chances, logits = zip(*parts, strict=True)
    return np.concatenate(chances), np.concatenate(logits)
