"""The model that a run keeps: the first draw's, or one that is fitted once more on all labels.

Folds and draws estimate accuracy; each label then teaches the model that is kept. What a fit needs
beyond the labels (the head's setting, epochs, temperature) was chosen by folds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from geotl.arrays import Int64s
from geotl.data import splits
from geotl.evaluation.evaluate import fit_temperature
from geotl.experiments.compare import FittedDraw, fit_draw, head_with, scene_features
from geotl.experiments.draws import Draw, folds_inside, make_draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import Recipe
from geotl.experiments.results import Answers, Results, folds_words
from geotl.experiments.samples import TileSamples
from geotl.experiments.schema import SplitSection
from geotl.language import msg
from geotl.training.heads import Folds, Linear
from geotl.training.strategies import TileFusion
from geotl.training.tuning import middle_share

_NONE: Int64s = np.zeros(0, np.int64)


@dataclass(frozen=True)
class KeptModel:
    """What is written as model.safetensors.

    Attributes:
        fit: the network, and the split with its training tiles.
        unlabelled: the head trained on unlabelled pixels too, if asked for.
        labels: how many labels there are, where the network was fitted to all; else None.
        seconds: that the further fit took, 0 where there was none.
        estimate: which accuracy it has and what it was fitted on, "" for a draw's own model.
    """

    made: FittedDraw
    unlabelled: Linear | None
    labels: int | None = None
    seconds: float = 0.0
    estimate: str = ""


def keeps_all(recipe: Recipe) -> bool:
    """Whether a run of tiles fits the model that it keeps once more, on all labels.

    >>> keeps_all(Recipe()), keeps_all(Recipe(keep="all"))
    (False, True)
    """
    split = recipe.split
    if recipe.keep is not None:
        return recipe.keep == "all"
    of_test_tiles = recipe.probe.unlabelled != "none" and not recipe.labels.unlabelled
    of_test_tiles = of_test_tiles or isinstance(recipe.probe.pool, float)
    fixed = split.method == "column" or split.shots is not None or of_test_tiles
    return not fixed and (split.kfold is not None or split.draws > 1)


def fit_kept(
    experiment: Experiment, first: FittedDraw, unlabelled: Linear | None, results: Results
) -> KeptModel:
    """The model to keep.

    Args:
        experiment: of the recipe; its repeats are fitted and scored.
        first: the first draw's network.
        unlabelled: its head trained on unlabelled pixels too, if there is one.
        results: of all draws.
    """
    if not keeps_all(experiment.recipe):
        return KeptModel(first, unlabelled)
    begun = time.perf_counter()
    answers = Answers.joined([one.answers for one in results.draws])
    epochs = chosen_epochs([one.epochs for one in results.draws])
    share = middle_share([one.share for one in results.draws])
    fusion = first.fitted.fusion if results.fused else None  # no split is: the plain network
    fit = fit_on_all(experiment, epochs, answers, fusion=fusion, share=share)
    head = None
    if experiment.recipe.probe.unlabelled != "none":
        head = head_with(experiment, fit, scene_features(experiment, fit.fitted))
    history = first.fitted.history
    if history is not None and fit.fitted.features is None:
        chosen = replace(history, best_epoch=(epochs or 1) - 1)
        fit = replace(fit, fitted=replace(fit.fitted, history=chosen))
    labels = labels_of(experiment.samples, fit.draw.split.train)
    words = estimate_words(experiment.recipe, labels)
    return KeptModel(fit, head, labels, time.perf_counter() - begun, words)


def fit_on_all(
    experiment: Experiment,
    epochs: int | None,
    answers: Answers,
    *,
    fusion: TileFusion | None = None,
    share: float | None = None,
) -> FittedDraw:
    """The recipe's network fitted to all labels.

    Folds over all labels choose the setting and the temperature of a probe, and how it is fused. A
    training runs `epochs` epochs, and its temperature is that of the answers.

    Args:
        experiment: the recipe, and where checkpoints are written.
        epochs: of a training; None for a probe.
        answers: out-of-fold logits of the networks that estimate the accuracy.
        fusion: of a training with heads on band statistics, as the first split chose it.
        share: of a fine-tuning from a probe that is kept; None of any other fit.
    """
    below = replace(experiment, folder=experiment.folder / "kept")
    draw = whole_draw(experiment.recipe, experiment.samples)
    fit = fit_draw(below, draw, epochs, fusion=fusion if epochs else None, share=share)
    if fit.fitted.features is None:
        fit.fitted.network.temperature.fill_(kept_temperature(answers, fit.fitted.fusion))
    return fit


def kept_temperature(answers: Answers, fusion: TileFusion | None) -> float:
    """The temperature of a trained network, by what the networks of all splits gave.

    Where splits are fused with weights of their own, their logits are of different scales, and are
    calibrated first.
    """
    if fusion is None:
        return fit_temperature(answers.logits, answers.truth)
    calibrated = answers.logits / answers.temperature[:, None]
    return fusion.temperature * fit_temperature(calibrated, answers.truth)


def chosen_epochs(chosen: Sequence[int | None]) -> int | None:
    """The (lower) median of the epochs that the draws' folds chose; None for probes.

    >>> chosen_epochs([7, 3, 12, 4]), chosen_epochs([None, None])
    (4, None)
    """
    numbers = sorted(epochs for epochs in chosen if epochs is not None)
    return numbers[(len(numbers) - 1) // 2] if numbers else None


def whole_draw(recipe: Recipe, samples: TileSamples) -> Draw:
    """All labelled tiles for training, none for testing, with folds over the real ones.

    The folds are those that estimate the accuracy, where each tile is tested in one of them; a
    tile whose class has no training tile in its fold is not held out. Otherwise they are made as
    those inside a training part.
    """
    rows = np.flatnonzero(samples.labels >= 0).astype(np.int64)
    aside = np.setdiff1d(np.arange(len(samples)), rows)
    draw = Draw(0, splits.Split(rows, _NONE, aside), [])
    real = replace(draw, split=replace(draw.split, train=rows[rows < len(samples.real)]))
    if recipe.split.kfold and recipe.split.shots is None:
        return replace(draw, folds=_outer_folds(recipe, samples, rows))
    return replace(draw, folds=folds_inside(recipe, samples.real, real))


def _outer_folds(recipe: Recipe, samples: TileSamples, rows: Int64s) -> Folds:
    """The folds that estimate the accuracy, as (fit, held out) positions among `rows`."""
    labels, folds = samples.labels, list[tuple[Int64s, Int64s]]()
    for number in range(recipe.split.kfold or 0):
        split = make_draw(recipe, samples, number).split
        held_out = split.test[np.isin(labels[split.test], labels[split.train])]
        if len(held_out):
            folds.append((np.searchsorted(rows, split.train), np.searchsorted(rows, held_out)))
    return folds


def labels_of(samples: TileSamples, rows: Int64s) -> int:
    """Labels behind some real rows: of chips, the points or polygons that they were cut at."""
    real = rows[rows < len(samples.real)]
    if samples.placement is None:
        return len(real)
    return len({samples.placement.chips[row].label_id for row in real})


def estimate_words(recipe: Recipe, labels: int) -> str:
    """Which accuracy the model that is kept has, and what it was fitted on."""
    split = recipe.split
    return msg(
        "Accuracy is estimated by {how}; this model was fitted on all {labels} labels.",
        how=folds_words(split.method, split.kfold) if split.kfold else _draws_words(split),
        labels=labels,
    )


def _draws_words(split: SplitSection) -> str:
    """How often tiles were split, and by what."""
    if split.draws > 1:
        several = {
            "blocks": msg("{n} draws of a blocked split", n=split.draws),
            "group": msg("{n} draws of a split by group", n=split.draws),
            "scene": msg("{n} draws of a split by scene", n=split.draws),
        }
        return several.get(split.method, msg("{n} draws of a random split", n=split.draws))
    one = {
        "blocks": msg("a blocked split"),
        "group": msg("a split by group"),
        "scene": msg("a split by scene"),
    }
    return one.get(split.method, msg("a random split"))
