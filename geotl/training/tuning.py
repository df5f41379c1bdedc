"""How far a fine-tuned network goes from the probe it began from, chosen on held-out labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geotl.arrays import Bools, Floats, Int64s
from geotl.language import msg
from geotl.training.heads import calibrated_loss

HALFWAY = 0.5  # from a probe's weights to the trained ones, as Wortsman et al. 2022 recommend
SHARES = (0.0, HALFWAY)  # what is chosen from


@dataclass(frozen=True)
class Tuning:
    """How much of a fine-tuning is kept.

    Attributes:
        share: of the way from the probe's weights to the trained ones; 0 is the probe itself.
        fold_loss: calibrated log-loss on held-out training labels at each share; empty where no
            fold chose.
        fold_accuracy: accuracy on the same labels.
        temperature: fitted to their logits at the share that is kept.
    """

    share: float
    fold_loss: dict[float, float]
    fold_accuracy: dict[float, float]
    temperature: float

    def words(self) -> str:
        """The share that is kept, in one line.

        >>> Tuning(0.5, {0.0: 0.35, 0.5: 0.312, 1.0: 0.4}, {}, 1.0).words()
        'fine-tuning: 50 % of the way from the probe is kept (held-out loss 0.312, probe 0.350)'
        >>> Tuning(0.0, {}, {}, 1.0).words()
        'fine-tuning: 0 % of the way from the probe is kept'
        """
        share = 100 * self.share
        if not self.fold_loss:
            return msg("fine-tuning: {share:.0f} % of the way from the probe is kept", share=share)
        return msg(
            "fine-tuning: {share:.0f} % of the way from the probe is kept (held-out loss "
            "{chosen:.3f}, "
            "probe {probe:.3f})",
            share=share,
            chosen=self.fold_loss[self.share],
            probe=self.fold_loss[SHARES[0]],
        )


def choose_share(logits: Mapping[float, Floats], truth: Int64s) -> Tuning:
    """Keep the share of least calibrated log-loss; of equal ones that nearest to the probe.

    Loss alone does not choose: a discriminant's logits are less calibrated in shape than those of
    a training, so a share is left out that classifies fewer tiles correctly than the probe, by
    more than a standard error of the paired difference. A training that has diverged is too.

    Args:
        logits: held-out logits [n, K] by share, the probe's at 0.
        truth: classes of the held-out tiles [n].

    >>> truth = np.array([0, 1, 0, 1])
    >>> blind, sure = np.zeros((4, 2)), 4.0 * np.eye(2)[truth]
    >>> choose_share({0.0: blind, 1.0: sure}, truth).share
    1.0
    >>> choose_share({0.0: sure, 1.0: sure}, truth).share
    0.0
    """
    finite = {s: rows for s, rows in sorted(logits.items()) if np.isfinite(rows).all()}
    losses = {share: calibrated_loss(rows, truth) for share, rows in finite.items()}
    right = {share: rows.argmax(axis=1) == truth for share, rows in finite.items()}
    able = [share for share, hits in right.items() if not _worse(hits, right[SHARES[0]])]
    best = min(able, key=lambda share: losses[share][0])
    return Tuning(
        best,
        {share: loss for share, (loss, _) in losses.items()},
        {share: float(np.mean(hits)) for share, hits in right.items()},
        losses[best][1],
    )


def _worse(hits: Bools, base: Bools) -> bool:
    """Whether fewer of the same tiles are correct, by more than a standard error (McNemar 1947)."""
    lost, won = int((base & ~hits).sum()), int((hits & ~base).sum())
    return bool(lost - won > (lost + won) ** 0.5)


def middle_share(shares: Sequence[float | None]) -> float | None:
    """The (lower) median of the shares that several splits chose; None where none did.

    >>> middle_share([1.0, 0.0, 0.5, 1.0]), middle_share([None])
    (0.5, None)
    """
    chosen = sorted(share for share in shares if share is not None)
    return chosen[(len(chosen) - 1) // 2] if chosen else None
