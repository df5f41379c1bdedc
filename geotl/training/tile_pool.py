"""A pool of unlabelled tiles that a probe's head is fitted to, where held-out labels show a gain.

The discriminant of the labels classifies the tiles of the pool; those that it is sure of are fitted
together with the labels, and so on in rounds (self-training, Lee 2013). A class takes as many tiles
of the pool as reach the threshold: nothing is assumed of how common the classes are. No test tile
is in the pool, so that the accuracy is that on new tiles (inductive).

Folds inside the labels decide: heads of each fold's labels and the pool, and heads of these labels
alone, predict the tiles held out. The pool takes part only if it is ahead by more than chance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import log_softmax

from geotl.arrays import Floats, Int64s
from geotl.errors import DataError
from geotl.evaluation.evaluate import fit_temperature
from geotl.training.heads import Chosen, Folds, Linear, discriminant, one_hot
from geotl.training.semi_supervised import PoolUse, with_unlabelled
from geotl.training.settings import ProbeSettings
from geotl.training.strategies import Fitted, HeldOut, install
from geotl.training.tile_fusion import gains

SURER = 0.5  # of the temperature: a head that has a pool is surer than the one calibrated without


def with_pool(
    fitted: Fitted, labels: Int64s, pool: Floats, folds: Folds, settings: ProbeSettings
) -> Fitted:
    """A probe whose head is fitted to a pool as well, if that helps on held-out labels.

    Args:
        fitted: the probe of the labels alone, a discriminant.
        labels: classes of its training tiles [N].
        pool: standardised features of the unlabelled tiles, [M, V, D].
        folds: (fit, held out) positions among the training tiles; without any, no gain can be
            shown and the probe stays as it is.
        settings: of the probe: threshold and rounds.

    Raises:
        DataError: the network is no probe.
    """
    if fitted.features is None or fitted.chosen is None:
        raise DataError("probe.pool: only a probe takes unlabelled tiles; allowed: strategy=probe")
    chosen, centred = fitted.chosen, pool.mean(axis=1, keepdims=True)
    rows = np.concatenate([outside for _, outside in folds]) if folds else np.zeros(0, np.int64)
    if not len(rows) or not len(pool):
        return replace(fitted, pool=PoolUse(len(pool), False, np.nan, np.nan, 0, chosen.head))
    alone, both = _held_out(
        fitted.features, labels, centred, folds=folds, chosen=chosen, settings=settings
    )
    truth, temperature = labels[rows], fit_temperature(both, labels[rows])
    before = log_softmax(alone / fit_temperature(alone, truth), axis=1)
    after = log_softmax(both / temperature, axis=1)
    losses = [-float(one[np.arange(len(truth)), truth].mean()) for one in (after, before)]
    used = gains(before, after, truth)
    use = PoolUse(len(pool), used, losses[0], losses[1], len(rows), chosen.head)
    if not used:
        return replace(fitted, pool=use)
    head = self_trained(fitted.features, labels, centred, chosen, settings)
    install(fitted.network, head, temperature)
    return replace(fitted, held_out=HeldOut(rows, both), pool=use)


def self_trained(
    features: Floats, labels: Int64s, pool: Floats, start: Chosen, settings: ProbeSettings
) -> Linear:
    """The discriminant of labels [N, V, D] and of the tiles of a pool [M, 1, D] that it is sure of.

    `start` is the head of the labels alone, with its shrinkage and temperature.
    """
    surer = replace(start, temperature=SURER * start.temperature)
    rule = settings.model_copy(update={"unlabelled": "pseudo_labels"})
    return with_unlabelled(features, labels, pool, surer, rule)


def _held_out(
    features: Floats,
    labels: Int64s,
    pool: Floats,
    *,
    folds: Folds,
    chosen: Chosen,
    settings: ProbeSettings,
) -> tuple[Floats, Floats]:
    """Logits [n, K] of the held-out tiles by heads of the other labels alone, and with the pool."""
    known, alone, both = one_hot(labels, len(chosen.head.bias)), [], []
    for fit, outside in folds:
        start = replace(
            chosen, head=discriminant(features[fit], known[fit], chosen.setting, chosen.parts)
        )
        head = self_trained(features[fit], labels[fit], pool, start, settings)
        alone.append(start.head.logits(features[outside]))
        both.append(head.logits(features[outside]))
    return np.concatenate(alone), np.concatenate(both)
