"""Implicit regularisation shown: gradient descent and early stopping."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from geotl.arrays import Float64s
from geotl.io.files import cache_folder, scratch_folder
from geotl.lecture.figures import (
    Bars,
    ClaimResult,
    Lines,
    MeanChange,
    Series,
    Shown,
    sd_of,
    spread,
)
from geotl.lecture.recipes import Descent, Stopping
from geotl.lecture.samples import (
    accuracy,
    curve,
    draw,
    mislabelled,
    network,
    plain_training,
    sample_of,
    tiles_of,
    two_parts,
)
from geotl.lecture.texts import Both
from geotl.lecture.words import ACCURACY, EPOCH, GAP, STEP, TEST, TRAINING
from geotl.models.classifier import TileClassifier
from geotl.training.checkpoint_files import LAST
from geotl.training.learner import History, Learner, Tiles, fit
from geotl.training.settings import Training


@dataclass(frozen=True)
class Descended:
    """A gradient descent: squared error and distance to a point after each step, and its end."""

    loss: Float64s
    distance: Float64s
    end: Float64s


def descend(
    matrix: Float64s, target: Float64s, start: Float64s, steps: int, to: Float64s | None = None
) -> Descended:
    """Gradient descent on the mean squared error of matrix @ w, at the rate 1 / L.

    Args:
        matrix: [n, m].
        target: [n].
        start: [m].
        steps: how many.
        to: point [m] from which distances are measured; the start if None.
    """
    count = len(target)
    rate = count / np.linalg.norm(matrix, 2) ** 2
    w, goal = start.copy(), start if to is None else to
    loss, distance = [], []
    for _ in range(steps):
        residual = matrix @ w - target
        loss.append(float(residual @ residual) / count)
        distance.append(float(np.linalg.norm(w - goal)))
        w -= rate * (matrix.T @ residual) / count
    return Descended(np.array(loss), np.array(distance), w)


def gradient_descent(numbers: Descent) -> Shown:
    """Fewer equations than unknowns: of all exact solutions, zero leads to the smallest."""
    random = np.random.default_rng(numbers.seed)
    matrix = random.standard_normal((numbers.rows, numbers.columns))
    target = random.standard_normal(numbers.rows)
    least_norm = np.linalg.pinv(matrix) @ target
    start = random.standard_normal(numbers.columns)
    zero = descend(matrix, target, np.zeros(numbers.columns), numbers.steps, least_norm)
    other = descend(matrix, target, start, numbers.steps, least_norm)
    away = float(np.abs(zero.end - least_norm).max())
    norms = [float(np.linalg.norm(w)) for w in (zero.end, other.end)]
    exact = max(float(np.abs(matrix @ w - target).max()) for w in (zero.end, other.end))
    findings = {
        "least": ClaimResult(
            away < 1e-10,
            Both(
                fr=f"Partie de zéro, la descente s'arrête à {away:.0e} de la solution de la "
                f"pseudo-inverse, de norme {norms[0]:.3f}.",
                en=f"From zero the descent ends {away:.0e} from the pseudoinverse's solution, of "
                f"norm {norms[0]:.3f}.",
            ),
        ),
        "start": ClaimResult(
            exact < 1e-10 and norms[1] > 1.01 * norms[0],
            Both(
                fr=f"Partie d'un point au hasard, elle résout aussi les équations (à {exact:.0e} "
                f"près), mais sa norme est {norms[1]:.3f}.",
                en=f"From a random point it solves the equations as well (to {exact:.0e}), but its "
                f"norm is {norms[1]:.3f}.",
            ),
        ),
    }
    panels = (_plane_panel(), *_descent_panels(zero, other))
    return Shown(findings, {"away": away, "norms": norms, "residual": exact}, panels)


FROM_ZERO = Both(fr="partie de zéro", en="from zero")
FROM_RANDOM = Both(fr="partie d'ailleurs", en="from elsewhere")


def _plane_panel() -> Lines:
    """One equation with two unknowns: all solutions are a line, and zero leads to its foot."""
    matrix, target = np.array([[1.0, 2.0]]), np.array([4.0])
    paths = [
        np.stack([descend(matrix, target, start, steps).end for steps in range(12)])
        for start in (np.zeros(2), np.array([2.6, -0.9]))
    ]
    ends = np.array([-0.5, 4.5])
    return Lines(
        Both(fr="Une équation, deux inconnues", en="One equation, two unknowns"),
        "w1",
        "w2",
        (
            Series(FROM_ZERO, *paths[0].T),
            Series(FROM_RANDOM, *paths[1].T),
            Series(
                Both(fr="toutes les solutions", en="all solutions"),
                ends,
                (4 - ends) / 2,
                dashed=True,
            ),
        ),
        limits=(-1.2, 3.2),
    )


def _descent_panels(zero: Descended, other: Descended) -> tuple[Lines, Lines]:
    """Error and distance to the least-norm solution, step by step."""
    steps = np.arange(len(zero.loss))
    titles = (
        (
            Both(fr="Les deux résolvent les équations", en="Both solve the equations"),
            Both(fr="erreur quadratique moyenne", en="mean squared error"),
            "loss",
        ),
        (
            Both(fr="Une seule a la norme minimale", en="One has the least norm"),
            Both(fr="distance à la pseudo-inverse", en="distance to the pseudoinverse"),
            "distance",
        ),
    )
    first, second = (
        Lines(
            title,
            STEP,
            y,
            (
                Series(FROM_ZERO, steps, _seen(getattr(zero, name))),
                Series(FROM_RANDOM, steps, _seen(getattr(other, name))),
            ),
            log_y=True,
        )
        for title, y, name in titles
    )
    return first, second


def _seen(values: Float64s) -> Float64s:
    """Values that a logarithmic axis can show."""
    return np.maximum(values, 1e-32)


@dataclass(frozen=True)
class Checkpointed:
    """A training with held-out tiles: the networks of its last and of its best epoch."""

    last: TileClassifier
    kept: TileClassifier
    history: History


def checkpointed(
    start: TileClassifier, train: Tiles, held_out: Tiles, training: Training
) -> Checkpointed:
    """Train a copy of a network as `geotl run` does: with checkpoints, which may stop it early.

    Args:
        start: with its first weights; not changed.
        train: the training tiles.
        held_out: those whose loss chooses the epoch.
        training: how.
    """
    model = copy.deepcopy(start)
    with scratch_folder(cache_folder() / "lecture" / "training") as folder:
        history = fit(Learner(model, train, held_out, training), folder=folder, quiet=True)
        state = torch.load(folder / LAST, weights_only=True)["state_dict"]
    last = copy.deepcopy(model)
    last.load_state_dict(
        {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
    )
    return Checkpointed(last, model, history)


@dataclass(frozen=True)
class Stopped:
    """One training stopped early, and the same one run to its end; accuracies of both.

    `train` and `test` are those of the complete training's last epoch and of the epoch kept.
    """

    early: Checkpointed
    complete: Checkpointed
    train: tuple[float, float]
    test: tuple[float, float]

    @property
    def gaps(self) -> tuple[float, float]:
        """Training minus test accuracy, of the last epoch and of the epoch kept."""
        return self.train[0] - self.test[0], self.train[1] - self.test[1]


def stopped(numbers: Stopping, number: int) -> Stopped:
    """Both trainings of a draw: half of the test sites choose the epoch, the other half test it."""
    rows, seed = draw(numbers, number), numbers.seed + number
    source = mislabelled(sample_of(numbers), rows.split.train, numbers.wrong, seed)
    validation, test = two_parts(source, rows.split.test, seed)
    start = network(source, rows.split.train, numbers, seed)
    plain = plain_training(numbers, seed).changed(schedule="one_cycle")
    train, choosing, test_side = (
        tiles_of(source, part) for part in (rows.split.train, validation, test)
    )
    early, complete = (
        checkpointed(start, train, choosing, plain.changed(patience=patience))
        for patience in (numbers.patience, 0)
    )
    pairs = [
        (accuracy(complete.last, side), accuracy(early.kept, side)) for side in (train, test_side)
    ]
    return Stopped(early, complete, *pairs)


def early_stopping(numbers: Stopping) -> Shown:
    """The same training stopped early, and run to its end with a checkpoint of its best epoch."""
    return stopping_shown([stopped(numbers, n) for n in range(numbers.seeds)], numbers.epochs)


def stopping_shown(pairs: Sequence[Stopped], epochs: int) -> Shown:
    """What stopping early changed: epochs run, overfitting, and the epoch kept."""
    ran = [len(one.early.history.epochs) for one in pairs]
    same = [_same_weights(one.early.kept, one.complete.kept) for one in pairs]
    gap = MeanChange.of(*zip(*(one.gaps for one in pairs), strict=True))
    test = MeanChange.of(*zip(*(one.test for one in pairs), strict=True))
    memorised = spread([one.train[0] for one in pairs])
    best = [one.complete.history.best_epoch + 1 for one in pairs]
    after = ", ".join(map(str, ran))
    words = gap.both(
        Both(
            fr=f"À la dernière époque, l'exactitude d'entraînement est {memorised}. Écart entre "
            "l'entraînement et le test, dernière époque -> époque gardée :",
            en=f"At the last epoch the training accuracy is {memorised}. Gap between training and "
            "test, last epoch -> epoch kept:",
        )
    )
    findings = {
        "earlier": ClaimResult(
            max(ran) < epochs,
            Both(
                fr=f"L'entraînement s'arrête après {after} époques sur {epochs}.",
                en=f"Training stops after {after} of {epochs} epochs.",
            ),
        ),
        "overfitting": ClaimResult(gap.falls, words),
        "checkpoint": ClaimResult(
            all(same),
            Both(
                fr=f"Les deux gardent les mêmes poids, bit pour bit, pour {sum(same)} graines sur "
                f"{len(same)} (époques {', '.join(map(str, best))}).",
                en=f"Both keep the same weights, bit for bit, in {sum(same)} of {len(same)} seeds "
                f"(epochs {', '.join(map(str, best))}).",
            ),
        ),
    }
    panels = (_loss_panel(pairs[0]), _kept_panel(gap, pairs))
    values = {
        "epochs_run": ran,
        "kept_epochs": best,
        "same": same,
        "gap": gap.values(),
        "test": test.values(),
    }
    return Shown(findings, values, panels)


def _loss_panel(one: Stopped) -> Lines:
    """Losses of the complete training, with the epoch kept and the one stopped at."""
    history, run = one.complete.history, len(one.early.history.epochs)
    best, epochs = history.best_epoch + 1, curve(history.epochs, "epoch") + 1
    return Lines(
        Both(fr="Un entraînement, jusqu'au bout", en="One training, to its end"),
        EPOCH,
        Both(fr="perte", en="loss"),
        (
            Series(TRAINING, epochs, curve(history.epochs, "train_loss")),
            Series("validation", epochs, curve(history.epochs, "val_loss")),
        ),
        marks={
            best: Both(fr=f"gardée : {best}", en=f"kept: {best}"),
            run: Both(fr=f"arrêt : {run}", en=f"stopped: {run}"),
        },
    )


def _kept_panel(gap: MeanChange, pairs: Sequence[Stopped]) -> Bars:
    """Training and test accuracy and their gap, of the last epoch and of the one kept."""
    names = (Both(fr="dernière époque", en="last epoch"), Both(fr="époque gardée", en="epoch kept"))
    table = np.array([[one.train, one.test, one.gaps] for one in pairs])  # [S, 3, 2]
    means, sds = table.mean(0), [[sd_of(table[:, i, j]) for j in range(2)] for i in range(3)]
    return Bars(
        gap.changes(Both(fr="L'écart", en="The gap")),
        (TRAINING, TEST, GAP),
        {name: means[:, side].tolist() for side, name in enumerate(names)},
        label=ACCURACY,
        sds={name: [row[side] for row in sds] for side, name in enumerate(names)},
        percent=True,
    )


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether all parameters and buffers are the same bits (nan counting as itself)."""
    second = other.state_dict()
    return all(
        torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(second[name]))
        for name, tensor in one.state_dict().items()
    )


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "gradient_descent": gradient_descent,
    "early_stopping": early_stopping,
}
