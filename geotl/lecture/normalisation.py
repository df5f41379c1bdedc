"""Normalisation shown: standardised attributes, batch normalisation and what it makes easy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import Float64s
from geotl.data.tile_array import batch, statistics
from geotl.lecture.figures import (
    ClaimResult,
    Histograms,
    Lines,
    MeanChange,
    Series,
    Shown,
)
from geotl.lecture.implicit import descend
from geotl.lecture.recipes import Batchnorm, Normalised, Standardised
from geotl.lecture.samples import (
    TrainedNetwork,
    band,
    compared,
    draw,
    learn,
    network,
    plain_training,
    sample_of,
    waited,
)
from geotl.lecture.texts import Both
from geotl.lecture.words import (
    ACCURACY_GAP,
    EPOCH,
    STEP,
    TEST,
    TEST_ACCURACY,
    TRAINING,
    sentence,
)
from geotl.models.backbone import SteadyBatchNorm2d


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
    after = max(excess[1][-1], 1e-12)
    findings = {
        "zero_one": ClaimResult(
            max(mean_away, sd_away) < 1e-5,
            Both(
                fr=f"Sur {len(rows)} tuiles d'entraînement, les moyennes des bandes sont à "
                f"{mean_away:.0e} près 0, leurs écarts-types à {sd_away:.0e} près 1.",
                en=f"Over {len(rows)} training tiles the bands' means are 0 to {mean_away:.0e}, "
                f"their sds 1 to {sd_away:.0e}.",
            ),
        ),
        "alike": ClaimResult(
            abs(ratio[1] - 1) < 1e-9,
            Both(
                fr=f"L'écart-type de la surface est {ratio[0]:.0f} fois celui du nombre de pièces "
                f"avant, {ratio[1]:.0f} fois après.",
                en=f"The surface's sd is {ratio[0]:.0f} times that of the rooms before, "
                f"{ratio[1]:.0f} times after.",
            ),
        ),
        "easier": ClaimResult(
            conditions[1] < conditions[0] and excess[1][-1] < excess[0][-1],
            Both(
                fr=f"Le conditionnement passe de {conditions[0]:.1e} à {conditions[1]:.1f}. Après "
                f"{numbers.steps} pas, l'erreur dépasse le minimum de {excess[0][-1]:.1%} sans "
                f"normalisation, de {after:.0e} avec.",
                en=f"The condition number goes from {conditions[0]:.1e} to {conditions[1]:.1f}. "
                f"After {numbers.steps} steps the error is above the least possible by "
                f"{excess[0][-1]:.1%} without, by {after:.0e} with standardisation.",
            ),
        ),
    }
    panels = (*_houses_panels(raw, scaled), _excess_panel(excess))
    values = {"condition": conditions, "mean": mean_away, "sd": sd_away, "bands": source.pack.bands}
    return Shown(findings, values, panels)


def _houses_panels(raw: Float64s, scaled: Float64s) -> tuple[Lines, Lines]:
    """Both attributes before and after, one unit as long on both axes."""
    rooms, surface = Both(fr="pièces", en="rooms"), Both(fr="surface", en="surface")
    metres = Both(fr="surface [m2]", en="surface [m2]")
    wide = float(raw[:, 0].max() - raw[:, 0].min()) / 2
    middle = float(raw[:, 1].mean())
    before = Lines(
        Both(fr="Avant : une bande étroite", en="Before: a narrow stripe"),
        metres,
        rooms,
        (Series("", raw[:, 0], raw[:, 1], dots=True),),
        limits=(middle - wide, middle + wide),
    )
    after = Lines(
        Both(fr="Après : la même échelle", en="After: one scale"),
        surface,
        rooms,
        (Series("", scaled[:, 0], scaled[:, 1], dots=True),),
        limits=(-3.5, 3.5),
    )
    return before, after


def _excess_panel(excess: Sequence[Float64s]) -> Lines:
    """Error above the least possible, step by step."""
    steps = np.arange(len(excess[0]))
    names = (Both(fr="avant", en="before"), Both(fr="après", en="after"))
    return Lines(
        Both(fr="Descente de gradient", en="Gradient descent"),
        STEP,
        Both(fr="erreur au-dessus du minimum", en="error above the least"),
        tuple(
            Series(name, steps, np.maximum(path, 1e-12))
            for name, path in zip(names, excess, strict=True)
        ),
        log_y=True,
    )


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
            Both(
                fr="Avec gamma = 1/sigma et beta = -mu/sigma, la couche donne (Z - mu)/sigma à "
                f"{away['affine']:.0e} près.",
                en="With gamma = 1/sigma and beta = -mu/sigma the layer gives (Z - mu)/sigma to "
                f"{away['affine']:.0e}.",
            ),
        ),
        "identity": ClaimResult(
            away["identity"] < 1e-4,
            Both(
                fr="Avec gamma = racine(v + eps) et beta = mu, la couche rend Z à "
                f"{away['identity']:.0e} près.",
                en="With gamma = sqrt(v + eps) and beta = mu the layer gives Z back to "
                f"{away['identity']:.0e}.",
            ),
        ),
        "batch": ClaimResult(
            away["biased"] < 1e-5 and away["unbiased"] < 1e-5,
            Both(
                fr=f"La variance du lot divise par n (à {away['biased']:.0e} près), celle gardée "
                f"pour l'évaluation par n - 1 (à {away['unbiased']:.0e} près). Avec les chiffres "
                f"d'un autre lot, les mêmes tuiles diffèrent de {away['modes']:.2f} au plus.",
                en=f"The batch's own variance divides by n (to {away['biased']:.0e}), the one kept "
                f"for evaluation by n - 1 (to {away['unbiased']:.0e}). With another batch's "
                f"figures the same tiles differ by up to {away['modes']:.2f}.",
            ),
        ),
    }
    channel = z[:, 0].detach().numpy()
    panels = (
        Histograms(
            Both(fr="Un canal avant et après la couche", en="A channel before and after the layer"),
            Both(fr="valeur", en="value"),
            {
                Both(fr="Z, avant", en="Z, before"): channel,
                Both(fr="(Z - mu)/sigma, après", en="(Z - mu)/sigma, after"): batched[:, 0].numpy(),
            },
        ),
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
    return normalised_shown(plain, normalised, numbers)


def normalised_shown(
    plain: Sequence[TrainedNetwork], normalised: Sequence[TrainedNetwork], numbers: Normalised
) -> Shown:
    """Both compared: epochs to a training accuracy, test accuracy, and gap."""
    arms = (plain, normalised)
    waits = MeanChange.of(
        *([waited(o, "train_accuracy", numbers.target, numbers.epochs) for o in a] for a in arms)
    )
    test, gap = compared(arms, "test"), compared(arms, "gap")
    goal, never = f"{numbers.target:.0%}", numbers.epochs + 1
    findings = {
        "easier": ClaimResult(
            waits.falls,
            waits.both(
                Both(
                    fr=f"Époques pour atteindre {goal} à l'entraînement (jamais : {never}), sans "
                    "puis avec :",
                    en=f"Epochs to reach {goal} in training (never: {never}), without then with:",
                ),
                1,
            ),
        ),
        "generalises": ClaimResult(test.rises, test.both(sentence(TEST_ACCURACY))),
        "overfitting": ClaimResult(gap.falls, gap.both(sentence(ACCURACY_GAP))),
    }
    reaching = Both(fr=f"Époques pour atteindre {goal}", en=f"Epochs to reach {goal}")
    titles = (
        (TRAINING, waits.title(reaching, 1)),
        (TEST, test.changes(Both(fr="L'exactitude de test", en="The test accuracy"))),
    )
    panels = tuple(
        Lines(
            title,
            EPOCH,
            Both(fr=f"exactitude ({side.fr})", en=f"accuracy ({side.en})"),
            (
                band(
                    Both(fr="avec normalisation par lots", en="with batch norm"), normalised, column
                ),
                band(Both(fr="sans", en="without"), plain, column),
            ),
            percent=True,
            limits=(0.0, 1.02),
        )
        for (side, title), column in zip(titles, ("train_accuracy", "val_accuracy"), strict=True)
    )
    values = {"epochs": waits.values(), "test": test.values(), "gap": gap.values()}
    return Shown(findings, values, panels)


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "standardisation": standardisation,
    "batchnorm_derivation": batchnorm_derivation,
    "batchnorm_training": batchnorm_training,
}
