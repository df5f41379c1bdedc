"""Under- and overfitting: too small, too free, just right; on purpose; by width and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geotl.evaluation.learning_curve import LearningCurve, learning_curve
from geotl.lecture.figures import Bars, ClaimResult, Lines, MeanChange, Series, Shown, sd_of, spread
from geotl.lecture.recipes import Capacity, MoreLabels, ThreeFits, TwoStages, Widths
from geotl.lecture.samples import (
    TrainedNetwork,
    compared,
    curve,
    draw,
    learn,
    network,
    plain_training,
    sample_of,
)
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.training.capacity import Memorised, memorise, noise_tiles
from geotl.training.heads import logistic
from geotl.training.settings import Augmentation

WORDS = {"under": "underfitting", "over": "overfitting", "right": "just right"}


def standing(train: float, test: float, target: float) -> str:
    """Two accuracies compared with a target: under, over, or right.

    >>> [standing(a, b, 0.9) for a, b in ((0.60, 0.58), (0.99, 0.70), (0.93, 0.91))]
    ['under', 'over', 'right']
    """
    if train < target:
        return "under"
    return "over" if test < target else "right"


def three_fits(numbers: ThreeFits) -> Shown:
    """A network too small, one free to overfit, and the same one regularised, on one draw."""
    source, rows = sample_of(numbers), draw(numbers, 0)
    plain = plain_training(numbers, numbers.seed)
    tiny = numbers.model_copy(update={"backbone": numbers.small, "cut_after": numbers.small_cut})
    held_back = replace(plain.changed(weight_decay=0.05), augmentation=Augmentation())
    trials = {
        "under": (network(source, rows.split.train, tiny, numbers.seed), plain),
        "over": (network(source, rows.split.train, numbers, numbers.seed), plain),
        "right": (network(source, rows.split.train, numbers, numbers.seed), held_back),
    }
    panels, findings, values = [], {}, {}
    for kind, (start, training) in trials.items():
        fit = learn(start, source, rows, training, watch=True)
        state = standing(fit.train, fit.test, numbers.target)
        accuracies = f"training {fit.train:.3f}, test {fit.test:.3f}"
        findings[kind] = ClaimResult(
            state == kind, f"{WORDS[state]}: {accuracies}, target {numbers.target:.2f}"
        )
        values[kind] = {"train": fit.train, "judged": fit.test, "found": state}
        panels.append(_fit_panel(WORDS[state], fit, numbers.target))
    return Shown(findings, values, tuple(panels))


def _fit_panel(title: str, fit: TrainedNetwork, target: float) -> Lines:
    epochs = curve(fit.history, "epoch") + 1
    return Lines(
        f"{title} ({fit.train:.2f}, {fit.test:.2f})",
        "epoch",
        "accuracy",
        (
            Series("training", epochs, curve(fit.history, "train_accuracy")),
            Series("test", epochs, curve(fit.history, "val_accuracy")),
        ),
        percent=True,
        level=(target, "target"),
        limits=(0.0, 1.02),
    )


def capacity_check(numbers: Capacity) -> Shown:
    """Noise with random labels overfitted on purpose; scored in evaluation and in training mode."""
    plain = _by_heart("lenet5", numbers, numbers.steps)
    trap = _by_heart(numbers.trap, numbers, numbers.trap_steps)
    looks = trap.looked_perfect
    reached = (
        f"100 % at step {plain.steps}" if plain.by_heart else f"{plain.accuracy:.0%} at the end"
    )
    measured = (
        f"training mode: 100 % at step {looks}, evaluation mode: {trap.path[looks - 1][2]:.0%} "
        f"there, {trap.accuracy:.0%} at step {trap.steps}"
        if looks is not None
        else f"training mode reached {max(one for _, one, _ in trap.path):.0%} in {trap.steps} "
        "steps, never before evaluation mode"
    )
    findings = {
        "memorise": ClaimResult(
            plain.by_heart, f"lenet5, {plain.tiles} tiles, evaluation mode: {reached}"
        ),
        "trap": ClaimResult(looks is not None, f"{numbers.trap}, {measured}"),
    }
    panels = tuple(
        _memorised_panel(name, result)
        for name, result in (("lenet5 (no batch normalisation)", plain), (numbers.trap, trap))
    )
    first = plain.steps if plain.by_heart else None
    values = {"lenet5_step": first, "trap_step": looks, "path": np.array(trap.path)}
    return Shown(findings, values, panels)


def _by_heart(backbone: str, numbers: Capacity, steps: int) -> Memorised:
    """How a network took to learning noise, all tiles in one batch."""
    tiles = noise_tiles(
        np.zeros(1), np.ones(1), 32, numbers.classes, count=numbers.tiles, seed=numbers.seed
    )
    return memorise(
        _bare(backbone, numbers),
        tiles,
        lr=numbers.lr,
        steps=steps,
        batch_size=numbers.tiles,
        seed=numbers.seed,
    )


def _memorised_panel(name: str, result: Memorised) -> Lines:
    steps, training, use = np.array(result.path).T
    return Lines(
        name,
        "step",
        "accuracy on its own tiles",
        (
            Series("evaluation mode", steps, use),
            Series("training mode", steps, training, dashed=True),
        ),
        percent=True,
    )


def _bare(backbone: str, numbers: Capacity) -> TileClassifier:
    """A network for grey noise, standard already."""
    built, _ = build_backbone(backbone, ["grey"], seed=numbers.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(numbers.seed)
        spec = FeatureSpec(built.stage_names[-1:], views=1)
        return TileClassifier(built, Normalise([0.0], [1.0]), spec, numbers.classes)


def _share(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).float().mean())


def width_sweep(numbers: Widths) -> Shown:
    """One hidden layer on band statistics, wider and wider: training and test error."""
    source = sample_of(numbers)
    table = source.band_table
    errors = np.zeros((2, numbers.seeds, len(numbers.widths)))
    for number in range(numbers.seeds):
        rows = draw(numbers, number).split
        training = table[rows.train]
        scaled = torch.from_numpy((table - training.mean(0)) / training.std(0)).float()
        truth = torch.from_numpy(source.labels)
        for place, width in enumerate(numbers.widths):
            layer = _hidden(scaled.shape[1], width, len(source.index.classes), number)
            _full_batch(layer, scaled[rows.train], truth[rows.train], numbers)
            for side, part in enumerate((rows.train, rows.test)):
                with torch.no_grad():
                    errors[side, number, place] = 1 - _share(layer(scaled[part]), truth[part])
    mean, sds = errors.mean(axis=1), np.array([[sd_of(c) for c in e.T] for e in errors])
    steps_up = np.diff(mean[0])
    allowed = np.maximum(sds[0][1:], 1e-12)
    cured = bool((steps_up <= allowed).all() and mean[0, -1] < 0.5 * mean[0, 0])
    gap = MeanChange.of(*(errors[1, :, i] - errors[0, :, i] for i in (0, -1)))
    narrow, wide = numbers.widths[0], numbers.widths[-1]
    findings = {
        "cure": ClaimResult(
            cured,
            f"training error {spread(errors[0, :, 0])} with {narrow} neurons, "
            f"{spread(errors[0, :, -1])} with {wide}; largest rise between neighbours "
            f"{max(0.0, float(steps_up.max())):.3f}",
        ),
        "overfit": ClaimResult(
            gap.rises, gap.words(f"test minus training error, {narrow} to {wide}")
        ),
    }
    panel = Lines(
        "error by width",
        "hidden neurons",
        "error",
        (
            Series("training", numbers.widths, mean[0], sds[0]),
            Series("test", numbers.widths, mean[1], sds[1]),
        ),
        log_x=True,
        percent=True,
    )
    return Shown(findings, {"widths": numbers.widths, "errors": errors}, (panel,))


def _hidden(features: int, width: int, classes: int, seed: int) -> nn.Sequential:
    """One hidden layer of tanh neurons, at random from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, classes))


def _full_batch(layer: nn.Module, x: Tensor, truth: Tensor, numbers: Widths) -> None:
    """Adam on all tiles in one batch."""
    adam = torch.optim.Adam(layer.parameters(), lr=numbers.lr)
    for _ in range(numbers.steps):
        adam.zero_grad()
        F.cross_entropy(layer(x), truth).backward()  # type: ignore[no-untyped-call]
        adam.step()


def two_stages(numbers: TwoStages) -> Shown:
    """Overfit with every regulariser off, then turn them on: the lecture's strategy."""
    source = sample_of(numbers)
    first: list[TrainedNetwork] = []
    second: list[TrainedNetwork] = []
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number), numbers.seed + number
        plain = plain_training(numbers, seed)
        held_back = replace(plain.changed(l2=numbers.l2), augmentation=Augmentation())
        for fits, dropout, training in (
            (first, 0.0, plain),
            (second, numbers.dropout, held_back),
        ):
            start = network(source, rows.split.train, numbers, seed, dropout=dropout)
            fits.append(learn(start, source, rows, training))
    return stages_shown(first, second, numbers.target)


def stages_shown(first: list[TrainedNetwork], second: list[TrainedNetwork], target: float) -> Shown:
    """Both stages compared: capacity, gap, and the two clauses of the definition."""
    train, test, gap = (compared((first, second), n) for n in ("train", "test", "gap"))
    reached = bool((train.off >= target).all())
    findings = {
        "capacity": ClaimResult(
            reached, f"stage 1 training accuracy {spread(train.off)}, target {target:.2f}"
        ),
        "gap": ClaimResult(gap.falls, gap.words("gap")),
        "clause_validation": ClaimResult(test.rises, test.words("test accuracy")),
        "clause_training": ClaimResult(not train.rises, train.words("training accuracy")),
    }
    panel = Bars(
        "stage 1: all off, stage 2: all on",
        ("training accuracy", "test accuracy", "gap"),
        {"stage 1": _means("off", train, test, gap), "stage 2": _means("on", train, test, gap)},
        sds={"stage 1": _sds("off", train, test, gap), "stage 2": _sds("on", train, test, gap)},
        percent=True,
    )
    values = {"train": train.values(), "judged": test.values(), "gap": gap.values()}
    return Shown(findings, values, (panel,))


def _means(side: str, *effects: MeanChange) -> list[float]:
    return [float(getattr(one, side).mean()) for one in effects]


def _sds(side: str, *effects: MeanChange) -> list[float]:
    return [sd_of(getattr(one, side)) for one in effects]


def more_labels(numbers: MoreLabels) -> Shown:
    """A linear head on band statistics by labels per class, almost free and regularised."""
    source = sample_of(numbers)
    table, truth = source.band_table, source.labels
    accuracies = np.zeros((2, numbers.seeds, len(numbers.sizes)))
    for number in range(numbers.seeds):
        for place, size in enumerate(numbers.sizes):
            rows = draw(numbers, number, shots=size).split
            training = table[rows.train]
            scaled = ((table - training.mean(0)) / training.std(0))[:, None]
            for kind, penalty in enumerate((numbers.free, numbers.penalised)):
                head = logistic(
                    scaled[rows.train],
                    truth[rows.train],
                    penalty,
                    num_classes=len(source.index.classes),
                )
                predicted = head.logits(scaled[rows.test]).argmax(1)
                accuracies[kind, number, place] = np.mean(predicted == truth[rows.test])
    curves = [learning_curve(numbers.sizes, part) for part in accuracies]
    more = MeanChange.of(accuracies[0, :, 0], accuracies[0, :, -1])
    regularised = MeanChange.of(accuracies[0, :, 0], accuracies[1, :, 0])
    findings = {
        "ideal": ClaimResult(
            more.rises,
            more.words(
                f"test accuracy, {numbers.sizes[0]} to {numbers.sizes[-1]} labels per class"
            ),
        ),
        "few": ClaimResult(
            regularised.rises,
            regularised.words(f"penalty off to on at {numbers.sizes[0]} labels per class"),
        ),
    }
    panel = Lines(
        "test accuracy by labels",
        "labels per class",
        "accuracy",
        (_curve_series("next to no penalty", curves[0]), _curve_series("penalised", curves[1])),
        log_x=True,
        percent=True,
    )
    return Shown(findings, {"sizes": numbers.sizes, "accuracy": accuracies}, (panel,))


def _curve_series(name: str, measured: LearningCurve) -> Series:
    return Series(name, measured.shots, measured.mean, measured.sd)


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "three_fits": three_fits,
    "capacity_check": capacity_check,
    "width_sweep": width_sweep,
    "two_stages": two_stages,
    "more_labels": more_labels,
}
