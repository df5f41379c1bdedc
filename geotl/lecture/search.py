"""The space that a training searches, from random and from pretrained weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geotl.arrays import Float64s
from geotl.lecture.figures import Bars, ClaimResult, Lines, MeanChange, Series, Shown, sd_of
from geotl.lecture.recipes import Transferred
from geotl.lecture.samples import accuracy, draw, pixels, sample_of, tiles_of
from geotl.lecture.texts import Both
from geotl.lecture.transfer import PRETRAINED, RANDOM, distances, trained
from geotl.models.classifier import TileClassifier
from geotl.models.registry import get_backbone

SHARES = np.linspace(0, 1, 9).tolist()  # of the way between two networks


def search_space(numbers: Transferred) -> Shown:
    """Two trainings on the same tiles from random and from pretrained weights; a frozen stage."""
    first = get_backbone(numbers.backbone).stages[0]
    roads, apart, still, untouched = [], [], [], []
    for number in range(numbers.seeds):
        ends = [
            [
                trained(numbers, number, pretrained=pretrained, second=second)[1].last
                for second in (False, True)
            ]
            for pretrained in (False, True)
        ]
        roads.append([road(numbers, number, *pair) for pair in ends])
        apart.append([distance(*pair) for pair in ends])
        start, fit = trained(numbers, number, pretrained=True, upto=first)
        still.append(distances(start, fit.last)[first])
        untouched.append(_same_state(start, fit.last, first))
    return space_shown(np.array(roads), np.array(apart), still, untouched)


def road(
    numbers: Transferred, number: int, first: TileClassifier, second: TileClassifier
) -> Float64s:
    """Training accuracy along the straight line between two networks' weights [SHARES].

    Batch statistics are estimated again at each point, on the training tiles.
    """
    source, rows = sample_of(numbers), draw(numbers, number).split.train
    image = pixels(first, source, rows)
    ends = first.state_dict(), second.state_dict()
    point, found = copy.deepcopy(first), []
    for share in SHARES:
        state = {
            name: torch.lerp(value, ends[1][name], share) if value.is_floating_point() else value
            for name, value in ends[0].items()
        }
        point.load_state_dict(state)
        estimate_statistics(point, image)
        found.append(accuracy(point, tiles_of(source, rows)))
    return np.array(found)


def estimate_statistics(model: TileClassifier, image: Tensor) -> None:
    """Put the batch normalisations' means and variances of these pixels [N, C, S, S] in place."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over batches
    model.train()
    with torch.no_grad():
        model(image)
    model.eval()


def distance(first: TileClassifier, second: TileClassifier) -> float:
    """Distance between two backbones' weights, over the mean of their norms."""
    weights = [
        torch.cat([p.detach().double().ravel() for p in model.backbone.parameters()])
        for model in (first, second)
    ]
    size = sum(float(w.norm()) for w in weights) / 2
    return float((weights[0] - weights[1]).norm()) / size


def space_shown(
    roads: Float64s, apart: Float64s, still: Sequence[float], untouched: Sequence[bool]
) -> Shown:
    """Findings on the space that is searched, and their figure.

    Args:
        roads: training accuracy between two ends [seeds, random or pretrained, points].
        apart: distance between these ends [seeds, random or pretrained].
        still: how far a frozen stage moved, for each seed.
        untouched: whether it kept every bit.
    """
    drops = roads[:, :, [0, -1]].mean(axis=2) - roads.min(axis=2)
    valley, far = MeanChange.of(*drops.T), MeanChange.of(*apart.T)
    words = (
        far.both(
            Both(
                fr="distance entre deux arrivées, relative à leur norme",
                en="distance between two ends, over their norm",
            ),
            2,
        ),
        valley.both(
            Both(
                fr="exactitude perdue sur le chemin de l'une à l'autre",
                en="accuracy lost on the way from one to the other",
            ),
            2,
        ),
    )
    findings = {
        "smaller": ClaimResult(
            far.falls and valley.falls,
            Both(fr=" ; ".join(w.fr for w in words), en="; ".join(w.en for w in words)),
        ),
        "frozen": ClaimResult(
            max(still) == 0 and all(untouched),
            Both(
                fr=f"l'étage gelé a bougé de {max(still):g} ; paramètres et tampons "
                f"identiques au bit près pour {sum(untouched)} graines sur {len(untouched)}",
                en=f"the frozen stage moved by {max(still):g}; parameters and buffers "
                f"bit-identical in {sum(untouched)} of {len(untouched)} seeds",
            ),
        ),
    }
    panels = (_roads(roads, valley), _far_apart(far))
    return Shown(findings, {"roads": roads, "apart": apart}, panels)


def _roads(roads: Float64s, valley: MeanChange) -> Lines:
    """Accuracy from one end to the other."""
    series = tuple(
        Series(name, SHARES, part.mean(axis=0), np.array([sd_of(c) for c in part.T]))
        for name, part in ((PRETRAINED, roads[:, 1]), (RANDOM, roads[:, 0]))
    )
    return Lines(
        valley.changes(Both(fr="L'exactitude perdue", en="The accuracy lost")),
        Both(fr="d'une arrivée (0) à l'autre (1)", en="from one end (0) to the other (1)"),
        Both(fr="exactitude sur l'entraînement", en="training accuracy"),
        series,
        percent=True,
        limits=(0.0, 1.05),
    )


def _far_apart(far: MeanChange) -> Bars:
    """Distances between two ends."""
    return Bars(
        far.changes(Both(fr="La distance entre deux arrivées", en="The distance between two ends")),
        (RANDOM, PRETRAINED),
        {"": [float(far.off.mean()), float(far.on.mean())]},
        label=Both(fr="relative à la norme des poids", en="over the weights' norm"),
        sds={"": [sd_of(far.off), sd_of(far.on)]},
        words={"": [f"{float(part.mean()):.2f}" for part in (far.off, far.on)]},
    )


def _same_state(before: TileClassifier, after: TileClassifier, stage: str) -> bool:
    """Whether a stage's parameters and buffers are the same bits."""
    second = after.backbone.stages[stage].state_dict()
    return all(
        torch.equal(tensor, second[name])
        for name, tensor in before.backbone.stages[stage].state_dict().items()
    )


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {"search_space": search_space}
