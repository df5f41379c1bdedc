"""A fitted network pooled with heads on the statistics of each band.

The members are the network's own head, a discriminant on mean, sd and gradient of each band, and
the baseline, logistic regression on mean and sd. Each is calibrated on training tiles that it was
not fitted to, and weighed by them (`opinion_pool`). All are linear, and so is their pool: one head
on the features of the stages, followed by the statistics.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import log_softmax

from geotl.arrays import Float32s, Float64s, Int64s
from geotl.evaluation.evaluate import fit_temperature
from geotl.language import msg
from geotl.models.band_statistics import PER_BAND
from geotl.models.classifier import TileClassifier, with_statistics
from geotl.training.features import statistics_table
from geotl.training.heads import (
    PENALTIES,
    Chosen,
    Folds,
    Linear,
    choose,
    choose_among,
    head_fit,
    logistic,
)
from geotl.training.learner import Tiles
from geotl.training.leave_one_out import leave_one_out
from geotl.training.opinion_pool import Pool, floored, log_loss
from geotl.training.strategies import (
    FitPlan,
    Fitted,
    HeldOut,
    TileFusion,
    install,
    leaves_one_out,
)

NETWORK, DISCRIMINANT = msg("network"), msg("statistics, discriminant")
LOGISTIC = msg("mean and sd, logistic")
SHRINKAGES = (0.001, 0.01, 0.03, 0.1, 0.3, 0.6)
EQUAL_TILES = 0.0  # weights as fitted: drawn to equal ones, they lose where the network is good


@dataclass(frozen=True)
class Bar:
    """How large a gain in log-loss on held-out tiles must be, for another model to be taken.

    Attributes:
        errors: standard errors of the gain that it must exceed.
        fitted: weights that were fitted on the same tiles; each lowers their loss by chance, and
            that of new tiles is higher by 1/n for each (Akaike 1974).
    """

    errors: float = 1.0
    fitted: int = 0


ASKED, AUTO = Bar(), Bar(errors=2.0, fitted=2)  # three members' weights sum to 1: two are free


@dataclass(frozen=True)
class HeadMember:
    """A linear head on some of the features.

    Attributes:
        head: fitted on all training tiles.
        columns: of the features that it takes, scaled.
        held_out: its logits of tiles that it was not fitted to.
    """

    head: Linear
    columns: slice
    held_out: HeldOut


def fuse(
    fitted: Fitted,
    train: Tiles,
    folds: Folds,
    plan: FitPlan,
    fusion: TileFusion | None = None,
    *,
    bar: Bar = ASKED,
) -> Fitted:
    """The network with the heads on band statistics in its own head.

    Args:
        fitted: the network; it stays as it is where it is better alone, or where no training tile
            is held out and `fusion` is None.
        train: the tiles it was fitted to.
        folds: (fit, held out) positions among them.
        plan: how it was fitted.
        fusion: weights and temperatures from an earlier fit; None to fit them.
        bar: what a gain over the network must exceed.
    """
    if fusion is None and fitted.held_out is None:
        return fitted
    if fusion is not None and not fusion.pools:
        return replace(fitted, fusion=fusion)
    network = with_statistics(fitted.network)
    table = scaled_statistics(network, train)
    members = members_of(fitted, table, train.labels, folds, plan)
    held_out = None
    if fusion is None:
        fusion, held_out = weighed(members, train.labels, bar)
    if not fusion.pools:
        return replace(fitted, fusion=fusion)
    install(network, pooled_head(members, fusion, network.head.in_features), fusion.temperature)
    features = fitted.features
    if features is not None:
        statistics = np.repeat(table[:, None], features.shape[1], axis=1)
        features = np.concatenate([features, statistics], axis=2)
    fused = replace(fitted, network=network.eval(), features=features, held_out=held_out)
    return replace(fused, fusion=fusion, alone=fitted)


def scaled_statistics(network: TileClassifier, train: Tiles) -> Float32s:
    """Statistics [n, 3C] of the training tiles, standardised; the network takes mean and sd."""
    table = statistics_table(network, train.pack, train.rows)
    mean, sd = table.mean(axis=0, dtype=np.float64), table.std(axis=0, dtype=np.float64)
    sd = np.where(sd > 1e-6, sd, 1.0)
    with torch.no_grad():
        network.feature_mean[network.deep_width :] = torch.from_numpy(mean)
        network.feature_sd[network.deep_width :] = torch.from_numpy(sd)
    return np.asarray((table - mean) / sd, np.float32)


def members_of(
    fitted: Fitted, table: Float32s, labels: Int64s, folds: Folds, plan: FitPlan
) -> dict[str, HeadMember]:
    """The network's head, first, and those fitted to the statistics [n, 3C] of training tiles."""
    start, classes = fitted.network.deep_width, fitted.network.head.out_features
    plain = table[:, : 2 * table.shape[1] // PER_BAND]
    fit = functools.partial(logistic, num_classes=classes)
    return {
        NETWORK: network_member(fitted),
        DISCRIMINANT: statistics_member(
            discriminant_on(table, labels, folds, plan, classes), start
        ),
        LOGISTIC: statistics_member(choose(plain[:, None], labels, folds, fit, PENALTIES), start),
    }


def network_member(fitted: Fitted) -> HeadMember:
    """The network's own head."""
    head, width = fitted.network.head, fitted.network.deep_width
    linear = Linear(head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy())
    none = HeldOut(np.zeros(0, np.int64), np.zeros((0, head.out_features)))
    return HeadMember(linear, slice(0, width), fitted.held_out or none)


def statistics_member(chosen: Chosen, start: int) -> HeadMember:
    """A head on the first statistics, whose columns begin at `start`."""
    end = start + chosen.head.weight.shape[1]
    held_out = HeldOut(chosen.fold_rows, chosen.fold_logits)
    return HeadMember(chosen.head, slice(start, end), held_out)


def discriminant_on(
    table: Float32s, labels: Int64s, folds: Folds, plan: FitPlan, classes: int
) -> Chosen:
    """The discriminant on the statistics, its held-out tiles those of the network."""
    features, fit = table[:, None], head_fit("discriminant", classes)
    if plan.strategy == "probe" and leaves_one_out(plan, folds, len(labels)):
        out = leave_one_out(features, labels, SHRINKAGES, classes)
        return choose_among(out.logits, out.rows, features, labels, fit)
    return choose(features, labels, folds, fit, SHRINKAGES)


def weighed(
    members: Mapping[str, HeadMember], labels: Int64s, bar: Bar = ASKED
) -> tuple[TileFusion, HeldOut]:
    """Weights and temperatures of the members, by the tiles that no member was fitted to.

    The second result holds the fused logits of these tiles.

    What has the least log-loss on them is taken, the pool or one member alone; but the network
    stays alone where the gain over it is not above the bar.

    Args:
        members: by name, the network's head first.
        labels: classes [n] of all training tiles.
        bar: what a gain over the network must exceed.
    """
    rows = functools.reduce(np.intersect1d, [one.held_out.rows for one in members.values()])
    truth, weight = labels[rows], np.ones(len(rows))
    logits = {name: one.held_out.of(rows) for name, one in members.items()}
    temperatures = {name: fit_temperature(values, truth) for name, values in logits.items()}
    calibrated = {
        name: floored(np.asarray(log_softmax(values, axis=1)), temperatures[name])
        for name, values in logits.items()
    }
    losses = {name: log_loss(values, truth, weight) for name, values in calibrated.items()}
    pool = best_pool(calibrated, truth, losses, bar)
    temperature = temperatures[NETWORK] if pool.weights[NETWORK] == 1 else pool.temperature
    fusion = TileFusion(pool.weights, temperatures, temperature, losses, pool.loss, len(rows))
    return fusion, HeldOut(rows, temperature * pool.log_probabilities(calibrated))


def best_pool(
    calibrated: Mapping[str, Float64s], truth: Int64s, losses: Mapping[str, float], bar: Bar
) -> Pool:
    """The pool of least log-loss, of all members or of one, if it gains on the first member."""
    alone = [
        Pool({one: float(one == name) for one in losses}, 1.0, losses[name]) for name in losses
    ]
    pool = Pool.of(calibrated, truth, np.ones(len(truth)), EQUAL_TILES)
    best = min([*alone, pool], key=lambda one: one.loss)
    before, after = (one.log_probabilities(calibrated) for one in (alone[0], best))
    return best if gains(before, after, truth, bar) else alone[0]


def gains(before: Float64s, after: Float64s, truth: Int64s, bar: Bar = ASKED) -> bool:
    """Whether log-probabilities [n,K] of the true classes rise by more than the bar.

    >>> half, sure = np.log(np.full((9, 2), 0.5)), np.log([[0.8, 0.2]] * 9)
    >>> gains(half, sure, np.zeros(9, np.int64)), gains(half, half, np.zeros(9, np.int64))
    (True, False)
    >>> gains(half, np.log([[0.6, 0.4]] * 9), np.zeros(9, np.int64), AUTO)  # 0.18 a tile; 2/9
    False
    """
    rise = (after - before)[np.arange(len(truth)), truth]
    error = rise.std() / np.sqrt(max(len(rise) - 1, 1))
    return bool(rise.mean() > bar.errors * error + bar.fitted / len(rise))


def pooled_head(members: Mapping[str, HeadMember], fusion: TileFusion, width: int) -> Linear:
    """One head [K, width] whose logits are the weighted sum of the members' calibrated ones."""
    classes = len(next(iter(members.values())).head.bias)
    weight, bias = np.zeros((classes, width)), np.zeros(classes)
    for name, one in members.items():
        share = fusion.weights[name] / fusion.temperatures[name]
        weight[:, one.columns] += share * one.head.weight
        bias += share * one.head.bias
    return Linear(weight, bias)
