"""Soft targets of a decoder: confident predictions of other members for pixels without a label.

A teacher is the fusion of the members that need no decoder, fitted on the same training pixels as
the decoder that it teaches, so that no label outside its training reaches the decoder
(Hinton et al. 2015, Distilling the knowledge in a neural network).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from geotl.arrays import Float64s, Int64s


@dataclass(frozen=True)
class SoftTargets:
    """Probabilities of the classes at pixels of patches.

    Attributes:
        owner: the patch of each pixel [n].
        places: its row and column in the patch [n,2].
        probabilities: of the classes, float16 [n,K].
    """

    owner: Int64s
    places: Int64s
    probabilities: NDArray[np.float16]

    @classmethod
    def confident(
        cls, owner: Int64s, places: Int64s, log_probabilities: Float64s, minimum: float
    ) -> SoftTargets:
        """Of the pixels with a highest probability of at least `minimum`.

        Args:
            owner: the patch of each pixel [n].
            places: its row and column there [n,2].
            log_probabilities: calibrated [n,K].
            minimum: probability, 0 to 1.
        """
        rows = np.flatnonzero(log_probabilities.max(axis=1) >= np.log(minimum))
        probabilities = np.exp(log_probabilities[rows]).astype(np.float16)
        return cls(owner[rows], places[rows], probabilities)


Teach = Callable[[Int64s], SoftTargets]
"""From positions among the training pixels to soft targets elsewhere, from these pixels alone."""


def soft_loss(logits: Tensor, rows: Tensor, probabilities: Tensor) -> Tensor:
    """Mean cross-entropy with soft targets; 0 where there are none.

    Args:
        logits: [N,K,H,W].
        rows: of the probabilities [N,H,W], negative where a pixel has none.
        probabilities: [n,K].
    """
    image, row, col = torch.nonzero(rows >= 0, as_tuple=True)
    targets = probabilities[rows[image, row, col]].to(logits)
    predicted = F.log_softmax(logits[image, :, row, col].float(), dim=1)
    return -(targets * predicted).sum() / max(len(image), 1)
