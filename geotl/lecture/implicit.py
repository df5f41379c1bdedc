"""Implicit regularisation shown: gradient descent, early stopping, standardising, batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geotl.arrays import Float64s
from geotl.data.tile_array import batch, statistics
from geotl.lecture.figures import ClaimResult, Histograms, Lines, MeanChange, Series, Shown
from geotl.lecture.recipes import Batchnorm, Descent, Normalised, Standardised, Stopping
from geotl.lecture.samples import (
    TrainedNetwork,
    accuracy,
    band,
    compared,
    curve,
    draw,
    learn,
    network,
    plain_training,
    sample_of,
    tiles_of,
    waited,
)
from geotl.models.backbone import SteadyBatchNorm2d


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
            f"from zero it ends {away:.0e} from the pseudoinverse's solution, of norm "
            f"{norms[0]:.3f}",
        ),
        "start": ClaimResult(
            exact < 1e-10 and norms[1] > 1.01 * norms[0],
            f"from a random start the equations hold as well (to {exact:.0e}), but the norm is "
            f"{norms[1]:.3f}",
        ),
    }
    steps = np.arange(numbers.steps)
    panels = (
        Lines(
            "both fit the data",
            "step",
            "mean squared error",
            (
                Series("from zero", steps, _seen(zero.loss)),
                Series("from a random start", steps, _seen(other.loss)),
            ),
            log_y=True,
        ),
        Lines(
            "one finds the least-norm solution",
            "step",
            "distance to the pseudoinverse's",
            (
                Series("from zero", steps, _seen(zero.distance)),
                Series("from a random start", steps, _seen(other.distance)),
            ),
            log_y=True,
        ),
    )
    return Shown(findings, {"away": away, "norms": norms, "residual": exact}, panels)


def _seen(values: Float64s) -> Float64s:
    """Values that a logarithmic axis can show."""
    return np.maximum(values, 1e-32)


def early_stopping(numbers: Stopping) -> Shown:
    """The same training stopped early, and run to its end with a checkpoint of its best epoch."""
    source = sample_of(numbers)
    stopped: list[TrainedNetwork] = []
    complete: list[TrainedNetwork] = []
    kept_gaps: list[float] = []
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number), numbers.seed + number
        start = network(source, rows.split.train, numbers, seed)
        plain = plain_training(numbers, seed).changed(schedule="one_cycle")
        for fits, patience in ((stopped, numbers.patience), (complete, 0)):
            training = plain.changed(patience=patience)
            fits.append(learn(start, source, rows, training, watch=True))
        sides = (tiles_of(source, part) for part in (rows.split.train, rows.split.test))
        train, test = (accuracy(stopped[-1].kept, side) for side in sides)
        kept_gaps.append(train - test)
    ran = [len(one.history.epochs) for one in stopped]
    same = [_same_weights(a.kept, b.kept) for a, b in zip(stopped, complete, strict=True)]
    gap = MeanChange.of([one.gap for one in complete], kept_gaps)
    best = [
        (a.history.best_epoch + 1, b.history.best_epoch + 1)
        for a, b in zip(stopped, complete, strict=True)
    ]
    findings = {
        "earlier": ClaimResult(
            max(ran) < numbers.epochs,
            f"stopped after {', '.join(map(str, ran))} of {numbers.epochs} epochs",
        ),
        "overfitting": ClaimResult(
            gap.falls, gap.words("training minus held-out accuracy, last epoch -> stopped")
        ),
        "checkpoint": ClaimResult(
            all(same),
            f"both kept the same weights, bit for bit, in {sum(same)} of {len(same)} seeds "
            f"(epochs {', '.join(f'{a} and {b}' for a, b in best)})",
        ),
    }
    first, run = complete[0].history, len(stopped[0].history.epochs)
    panel = Lines(
        "one training, seed by seed the same batches",
        "epoch",
        "loss",
        (
            Series("training", curve(first, "epoch") + 1, curve(first, "train_loss")),
            Series("held out", curve(first, "epoch") + 1, curve(first, "val_loss")),
        ),
        marks={best[0][0]: f"kept: {best[0][0]}", run: f"stopped: {run}"},
        log_y=True,
    )
    values = {"epochs_run": ran, "kept_epochs": best, "same": same, "gap": gap.values()}
    return Shown(findings, values, (panel,))


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether all parameters and buffers are the same bits (nan counting as itself)."""
    second = other.state_dict()
    return all(
        torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(second[name]))
        for name, tensor in one.state_dict().items()
    )


def houses(count: int, seed: int) -> tuple[Float64s, Float64s]:
    """Simulated houses: surface [m2] and rooms [count, 2], and prices [count] in thousands."""
    random = np.random.default_rng(seed)
    surface = random.normal(150.0, 50.0, count).clip(20)
    rooms = random.integers(1, 7, count).astype(np.float64)
    price = 2.0 * surface + 15.0 * rooms + random.normal(0, 10, count)
    return np.stack([surface, rooms], axis=1), price


def design(attributes: Float64s) -> Float64s:
    """Attributes [n, k] with a column of ones before them."""
    return np.hstack([np.ones((len(attributes), 1)), attributes])


def conditioning(attributes: Float64s) -> float:
    """Condition number of the least-squares Hessian X'X, with an intercept.

    >>> round(conditioning(np.array([[1.0], [-1.0]])), 6)
    1.0
    """
    return float(np.linalg.cond(design(attributes)) ** 2)


def standardisation(numbers: Standardised) -> Shown:
    """(X - mean) / sd: of the tiles' bands, and of two attributes that differ in scale."""
    source, rows = sample_of(numbers), draw(numbers, 0).split.train
    mean_away, sd_away = standardised_bands(numbers)
    raw, price = houses(numbers.houses, numbers.seed)
    scaled = (raw - raw.mean(0)) / raw.std(0)
    conditions = conditioning(raw), conditioning(scaled)
    paths = [descend(design(x), price, np.zeros(3), numbers.steps).loss for x in (raw, scaled)]
    least_loss = float(np.linalg.lstsq(design(raw), price, rcond=None)[1][0]) / len(price)
    excess = [path / least_loss - 1 for path in paths]
    ratio = [float(x[:, 0].std() / x[:, 1].std()) for x in (raw, scaled)]
    findings = {
        "zero_one": ClaimResult(
            max(mean_away, sd_away) < 1e-5,
            f"over {len(rows)} training tiles the bands' means are within {mean_away:.0e} of 0, "
            f"their sds within {sd_away:.0e} of 1",
        ),
        "alike": ClaimResult(
            abs(ratio[1] - 1) < 1e-9,
            f"the surface's sd is {ratio[0]:.0f} times that of the rooms, then {ratio[1]:.0f}",
        ),
        "easier": ClaimResult(
            conditions[1] < conditions[0] and excess[1][-1] < excess[0][-1],
            f"condition number {conditions[0]:.1e} -> {conditions[1]:.1f}; error above the least "
            f"possible after {numbers.steps} steps {excess[0][-1]:.1%} -> {excess[1][-1]:.1e}",
        ),
    }
    steps = np.arange(numbers.steps)
    panels = (
        Lines(
            "as measured", "surface [m2]", "rooms", (Series("", raw[:, 0], raw[:, 1], dots=True),)
        ),
        Lines(
            "standardised", "surface", "rooms", (Series("", scaled[:, 0], scaled[:, 1], dots=True),)
        ),
        Lines(
            "gradient descent",
            "step",
            "error above the least",
            (
                Series("standardised", steps, np.maximum(excess[1], 1e-12)),
                Series("as measured", steps, np.maximum(excess[0], 1e-12)),
            ),
            log_y=True,
        ),
    )
    values = {"condition": conditions, "mean": mean_away, "sd": sd_away, "bands": source.pack.bands}
    return Shown(findings, values, panels)


def standardised_bands(numbers: Standardised) -> tuple[float, float]:
    """How far the standardised training bands are from mean 0 and sd 1, at most."""
    source, rows = sample_of(numbers), draw(numbers, 0).split.train
    stats = statistics(source.pack, rows)
    block = batch(source.pack, rows, fill=stats.fill)
    plane = (1, -1, 1, 1)
    mean, sd = (torch.from_numpy(x).view(plane) for x in (stats.mean, stats.sd))
    z = ((block["image"].double() - mean) / sd).transpose(0, 1)
    valid = block["valid"].expand_as(block["image"]).transpose(0, 1)
    bands = [values[mask] for values, mask in zip(z, valid, strict=True)]
    away = [(float(b.mean().abs()), float((b.std(correction=0) - 1).abs())) for b in bands]
    return max(m for m, _ in away), max(s for _, s in away)


def batchnorm_derivation(numbers: Batchnorm) -> Shown:
    """Gamma Z + beta: what standardises, what undoes it, and what a batch has to do with it."""
    source, rows = sample_of(numbers), draw(numbers, 0).split.train
    stats = statistics(source.pack, rows)
    image = batch(source.pack, rows[: numbers.tiles], fill=stats.fill)["image"]
    bands = len(source.pack.bands)
    generator = torch.Generator().manual_seed(numbers.seed)
    kernels = torch.randn(8, bands, 3, 3, generator=generator) / math.sqrt(9 * bands)
    plane = (1, -1, 1, 1)
    scaled = (image - torch.from_numpy(stats.mean).float().view(plane)) / torch.from_numpy(
        stats.sd
    ).float().view(plane)
    z = torch.nn.functional.conv2d(scaled, kernels) * 3 + 5
    away = derivation(z)
    layer = SteadyBatchNorm2d(8, momentum=1.0)
    batched = layer(z).detach()
    half = len(z) // 2
    layer(z[:half])  # what is kept is now of other tiles
    layer.eval()
    away["modes"] = float((layer(z[half:]) - batched[half:]).detach().abs().max())
    findings = {
        "derivation": ClaimResult(
            away["affine"] < 1e-5,
            f"gamma = 1/sigma, beta = -mu/sigma: the layer gives (Z - mu)/sigma to "
            f"{away['affine']:.0e}",
        ),
        "identity": ClaimResult(
            away["identity"] < 1e-4,
            f"gamma = sqrt(v + eps), beta = mu: the layer gives Z back to {away['identity']:.0e}",
        ),
        "batch": ClaimResult(
            away["biased"] < 1e-5 and away["unbiased"] < 1e-5,
            f"the batch's own variance divides by n (to {away['biased']:.0e}), the one kept for "
            f"use by n - 1 (to {away['unbiased']:.0e}); with another batch's figures the same "
            f"tiles come out up to {away['modes']:.2f} apart",
        ),
    }
    channel = z[:, 0].detach().numpy()
    panels = (
        Histograms("a channel before", "Z", {"Z": channel}),
        Histograms("after", "gamma Z + beta", {"z": batched[:, 0].numpy()}),
    )
    return Shown(findings, away, panels)


def derivation(z: Tensor) -> dict[str, float]:
    """How far a batch normalisation is from the lecture's formulas on maps [N, C, h, w].

    Returns:
        The largest differences: `affine` of gamma Z + beta with gamma = 1/sigma, beta = -mu/sigma;
        `identity` of gamma = sqrt(v + eps), beta = mu; `biased` and `unbiased` of the variances.
    """
    channels, plane = z.shape[1], (1, -1, 1, 1)
    mean, variance = z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)
    layer = SteadyBatchNorm2d(channels, momentum=1.0)
    sigma = (variance + layer.eps).sqrt()
    gamma, beta = 1 / sigma, -mean / sigma
    affine = gamma.view(plane) * z + beta.view(plane)
    with torch.no_grad():
        output = layer(z)
        running = torch.as_tensor(layer.running_var)
        layer.weight.copy_(sigma)
        layer.bias.copy_(mean)
        back = layer(z)
    by_n = output.var((0, 2, 3), correction=0) - variance / (variance + layer.eps)
    return {
        "affine": float((output - affine).abs().max()),
        "identity": float((back - z).abs().max()),
        "biased": float(by_n.abs().max()),
        "unbiased": float((running / z.var((0, 2, 3), correction=1) - 1).abs().max()),
    }


def batchnorm_training(numbers: Normalised) -> Shown:
    """A VGG without and with batch normalisation, the same convolutions at the start."""
    source = sample_of(numbers)
    plain: list[TrainedNetwork] = []
    normalised: list[TrainedNetwork] = []
    for number in range(numbers.seeds):
        rows, seed = draw(numbers, number), numbers.seed + number
        for fits, name in ((plain, numbers.backbone), (normalised, f"{numbers.backbone}_bn")):
            changed = numbers.model_copy(update={"backbone": name})
            start = network(source, rows.split.train, changed, seed)
            fits.append(learn(start, source, rows, plain_training(numbers, seed), watch=True))
    arms = (plain, normalised)
    waits = MeanChange.of(
        *([waited(o, "train_accuracy", numbers.target, numbers.epochs) for o in a] for a in arms)
    )
    test = compared(arms, "test")
    gap = compared(arms, "gap")
    findings = {
        "easier": ClaimResult(
            waits.falls,
            waits.words(
                f"epochs to {numbers.target:.0%} in training (never: {numbers.epochs + 1})", 1
            ),
        ),
        "generalises": ClaimResult(test.rises, test.words("test accuracy")),
        "overfitting": ClaimResult(gap.falls, gap.words("gap")),
    }
    panels = tuple(
        Lines(
            title,
            "epoch",
            "accuracy",
            (band("with batch normalisation", normalised, column), band("without", plain, column)),
            percent=True,
        )
        for title, column in (("training", "train_accuracy"), ("test", "val_accuracy"))
    )
    values = {"epochs": waits.values(), "judged": test.values(), "gap": gap.values()}
    return Shown(findings, values, panels)


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "gradient_descent": gradient_descent,
    "early_stopping": early_stopping,
    "standardisation": standardisation,
    "batchnorm_derivation": batchnorm_derivation,
    "batchnorm_training": batchnorm_training,
}
