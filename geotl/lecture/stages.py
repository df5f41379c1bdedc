"""What the stages of a network contain: kernels before and after, and a probe on each stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geotl.arrays import Float64s
from geotl.lecture.figures import (
    ClaimResult,
    Lines,
    MeanChange,
    Pictures,
    Series,
    Shown,
    sd_of,
)
from geotl.lecture.recipes import Transferred
from geotl.lecture.samples import draw, sample_of, tiles_of
from geotl.lecture.texts import Both
from geotl.lecture.transfer import PRETRAINED, RANDOM, distances, started, trained
from geotl.models.backbone import first_conv_of
from geotl.models.registry import get_backbone
from geotl.training.features import raw_features
from geotl.training.heads import logistic

PENALTY = 0.1  # of the probes
KERNELS = (
    Both(fr="aléatoires", en="random"),
    Both(fr="préentraînés", en="pretrained"),
    Both(fr="ajustés finement", en="fine-tuned"),
)


def first_kernels(numbers: Transferred) -> Shown:
    """The first convolution's kernels at random, pretrained, and fine-tuned on the task."""
    source, rows = sample_of(numbers), draw(numbers, 0)
    random = started(numbers, source, rows.split.train, numbers.seed, pretrained=False)
    moved = []
    for number in range(numbers.seeds):
        before, fit = trained(numbers, number, pretrained=True)
        moved.append(list(distances(before, fit.last).values()))
        if number == 0:
            pretrained, tuned = before, fit.last
    kernels = [first_conv_of(m.backbone).weight.detach() for m in (random, pretrained, tuned)]
    return kernels_shown(kernels, np.array(moved))


def kernels_shown(kernels: Sequence[Tensor], moved: Float64s) -> Shown:
    """Findings on kernels [O, C, k, k] at random, pretrained and fine-tuned, and their pictures.

    Args:
        kernels: the three.
        moved: how far fine-tuning moved each stage [seeds, stages].
    """
    coherent = [coherence(kernel) for kernel in kernels]
    edges = MeanChange.of(coherent[0], coherent[1])
    shift = MeanChange.of(moved[:, -1], moved[:, 0])
    findings = {
        "edges": ClaimResult(
            edges.rises,
            edges.both(
                Both(
                    fr=f"cohérence moyenne de {len(coherent[0])} filtres (1 : une seule direction, "
                    "0 : aucune), aléatoires -> préentraînés :",
                    en=f"mean coherence of {len(coherent[0])} kernels (1: one direction alone, "
                    "0: none), random -> pretrained:",
                )
            ),
        ),
        "generic": ClaimResult(
            shift.falls,
            shift.both(
                Both(
                    fr="distance parcourue à l'ajustement fin, relative à la norme, dernier étage "
                    "-> premier :",
                    en="distance that fine-tuning moves the last stage -> the first, over the "
                    "norm:",
                )
            ),
        ),
    }
    order = np.argsort(-coherent[1])[:16]
    panels = tuple(
        Pictures(
            _kernels_title(name, values),
            tuple(_kernel_picture(kernel[i]) for i in order.tolist()),
            columns=4,
        )
        for name, kernel, values in zip(KERNELS, kernels, coherent, strict=True)
    )
    values = {"coherence": [c.mean() for c in coherent], "moved": moved}
    return Shown(findings, values, panels)


def _kernels_title(name: Both, values: Float64s) -> Both:
    """A panel's title: which kernels, and their mean coherence."""
    mean = f"{float(values.mean()):.2f}"
    return Both(fr=f"{name.fr}\ncohérence {mean}", en=f"{name.en}\ncoherence {mean}")


def coherence(kernels: Tensor) -> Float64s:
    """How much of a kernel's structure lies in one direction, [O] in 0..1, of [O, C, k, k].

    Of the structure tensor J summed over the kernel: (l1 - l2) / (l1 + l2) of its eigenvalues
    (Bigun & Granlund 1987). An edge or a bar gives 1, a blob 0, noise something small.

    >>> edge = torch.tensor([-1.0, 0.0, 1.0]).expand(1, 1, 3, 3)
    >>> round(float(coherence(edge)[0]), 3)
    1.0
    """
    grey = kernels.double().sum(dim=1)
    down = (grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]).flatten(1)
    right = (grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]).flatten(1)
    yy, xx, xy = (down * down).sum(1), (right * right).sum(1), (down * right).sum(1)
    share = ((xx - yy).square() + 4 * xy.square()).sqrt() / (xx + yy).clamp_min(1e-12)
    return np.asarray(share.numpy())


def _kernel_picture(kernel: Tensor) -> NDArray[Any]:
    """A kernel [C, k, k] in red, green and blue, grey where it is zero."""
    shown = kernel[[2, 1, 0]] if kernel.shape[0] >= 3 else kernel[:1].expand(3, -1, -1)
    scaled = 0.5 + 0.5 * shown / kernel.abs().max()
    return np.asarray(scaled.permute(1, 2, 0).numpy())


def stage_probes(numbers: Transferred) -> Shown:
    """A linear probe on each stage, of pretrained and random weights, on both regions."""
    home = numbers.model_copy(update={"region": "source"})
    table = np.array(
        [
            [
                [
                    probed(numbers, where, number, pretrained=pretrained)
                    for number in range(numbers.seeds)
                ]
                for where in (numbers, home)
            ]
            for pretrained in (False, True)
        ]
    )
    stages = get_backbone(numbers.backbone).stages[: table.shape[-1]]
    return probes_shown(stages, table)


def probes_shown(stages: Sequence[str], table: Float64s) -> Shown:
    """Findings of probes, and their figure.

    Args:
        stages: their names.
        table: test accuracy [random or pretrained, task or source, seeds, stages].
    """
    gain = table[1] - table[0]
    deep = MeanChange.of(gain[0, :, 0], gain[0, :, -1])
    classes = MeanChange.of(table[1, 1, :, 0], table[1, 1, :, -1])
    arrow = f"{stages[0]} -> {stages[-1]} :", f"{stages[0]} -> {stages[-1]}:"
    findings = {
        "generic": ClaimResult(
            deep.rises,
            deep.both(
                Both(
                    fr="ce que des poids préentraînés ajoutent à la sonde sur la tâche, "
                    f"{arrow[0]}",
                    en=f"what pretrained weights add to the probe on the task, {arrow[1]}",
                )
            ),
        ),
        "specific": ClaimResult(
            classes.rises,
            classes.both(
                Both(
                    fr=f"exactitude de la sonde sur les classes de la source, {arrow[0]}",
                    en=f"accuracy of the probe on the source's classes, {arrow[1]}",
                )
            ),
        ),
    }
    ends = MeanChange.of(table[0, 0, :, -1], table[1, 0, :, -1])
    ours = MeanChange.of(table[0, 1, :, -1], table[1, 1, :, -1])
    panels = (
        _probe_lines(table[:, 1], stages, ours.title(Both(fr="région source", en="source region"))),
        _probe_lines(table[:, 0], stages, ends.title(Both(fr="région cible", en="target region"))),
    )
    return Shown(findings, {"stages": stages, "accuracy": table, "deep": deep.values()}, panels)


def _probe_lines(table: Float64s, stages: Sequence[str], title: Both) -> Lines:
    """A panel of probes by stage, of [random or pretrained, seeds, stages]."""
    series = tuple(
        Series(name, np.arange(len(stages)) + 1, part.mean(0), np.array([sd_of(c) for c in part.T]))
        for name, part in ((PRETRAINED, table[1]), (RANDOM, table[0]))
    )
    return Lines(
        title,
        Both(
            fr=f"étage ({', '.join(f'{i + 1} : {s}' for i, s in enumerate(stages))})",
            en=f"stage ({', '.join(f'{i + 1}: {s}' for i, s in enumerate(stages))})",
        ),
        Both(fr="exactitude d'une sonde linéaire", en="accuracy of a linear probe"),
        series,
        percent=True,
        limits=(0.3, 1.0),
    )


def probed(
    numbers: Transferred, where: Transferred, number: int, *, pretrained: bool
) -> list[float]:
    """Test accuracy of a logistic head on each stage's pooled features, shallow to deep."""
    source, rows = sample_of(where), draw(where, number)
    stages = get_backbone(numbers.backbone).stages
    stages = stages[: stages.index(numbers.cut_after or stages[-1]) + 1]
    model = started(
        numbers,
        source,
        rows.split.train,
        numbers.seed + number,
        pretrained=pretrained,
        stages=stages,
    )
    train, test = (tiles_of(source, part) for part in (rows.split.train, rows.split.test))
    features = []
    for part in (train, test):
        raw = torch.from_numpy(raw_features(model, part.pack, part.rows, precision="float32"))
        features.append(model.standardise(raw).numpy())
    ends = np.cumsum([model.backbone.channels[stage] for stage in stages])[:-1]
    classes = len(source.index.classes)
    accuracies = []
    for learn, look in zip(*(np.split(part, ends, axis=2) for part in features), strict=True):
        head = logistic(learn, train.labels, PENALTY, num_classes=classes)
        accuracies.append(float(np.mean(head.logits(look).argmax(1) == test.labels)))
    return accuracies


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "first_kernels": first_kernels,
    "stage_probes": stage_probes,
}
