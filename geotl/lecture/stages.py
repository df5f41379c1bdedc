"""What the stages of a network contain: kernels before and after, and a probe on each stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    spread,
)
from geotl.lecture.recipes import Transferred
from geotl.lecture.samples import draw, sample_of, tiles_of
from geotl.lecture.transfer import distances, source_numbers, started, trained
from geotl.models.backbone import first_conv_of
from geotl.training.features import raw_features
from geotl.training.heads import logistic

PENALTY = 0.1  # of the probes


def first_kernels(numbers: Transferred) -> Shown:
    """The first convolution's kernels at random, pretrained, and fine-tuned on the task."""
    source, rows = sample_of(numbers), draw(numbers, 0)
    random, _ = started(numbers, source, rows.split.train, numbers.seed, pretrained=False)
    moved, coherent = [], []
    for number in range(numbers.seeds):
        before, fit = trained(numbers, number, pretrained=True)
        moved.append(list(distances(before, fit.last).values()))
        if number == 0:
            pretrained, tuned = before, fit.last
    kernels = [first_conv_of(m.backbone).weight.detach() for m in (random, pretrained, tuned)]
    coherent = [coherence(k) for k in kernels]
    edges = coherent[1].mean() - coherent[0].mean()
    error = (coherent[0].var() / len(coherent[0]) + coherent[1].var() / len(coherent[1])) ** 0.5
    shift = MeanChange.of([row[-1] for row in moved], [row[0] for row in moved])
    findings = {
        "edges": ClaimResult(
            bool(edges > 2 * error),
            f"mean coherence (1: one direction, 0: none) {coherent[0].mean():.3f} at random, "
            f"{coherent[1].mean():.3f} pretrained (difference {edges:+.3f} ± {error:.3f})",
        ),
        "generic": ClaimResult(
            shift.falls,
            shift.words("fine-tuning moves the deepest stage -> the first, over their norms"),
        ),
    }
    order = np.argsort(-coherent[1])[:16]
    panels = tuple(
        Pictures(title, tuple(_kernel_picture(k[i]) for i in order.tolist()), columns=4)
        for title, k in zip(("random", "pretrained", "fine-tuned"), kernels, strict=True)
    )
    values = {"coherence": [c.mean() for c in coherent], "moved": moved}
    return Shown(findings, values, panels)


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
    task = source_numbers(numbers).model_copy(update={"shots": numbers.shots})
    table = np.zeros((2, 2, numbers.seeds, 0))
    columns = []
    stages = started(
        numbers,
        sample_of(numbers),
        draw(numbers, 0).split.train,
        numbers.seed,
        pretrained=False,
    )[0].backbone.stage_names
    for stage in stages:
        accuracies = np.zeros((2, 2, numbers.seeds))
        for number in range(numbers.seeds):
            for place, where in enumerate((numbers, task)):
                for side, pretrained in enumerate((False, True)):
                    accuracies[side, place, number] = _probed(
                        numbers, where, stage, number, pretrained=pretrained
                    )
        columns.append(accuracies)
    table = np.stack(columns, axis=-1)  # [random or pretrained, task or source, seeds, stages]
    gain = table[1] - table[0]
    deep = MeanChange.of(gain[0, :, 0], gain[0, :, -1])
    ratio = table[1, 0] / table[1, 1]
    loss = MeanChange.of(ratio[:, 0], ratio[:, -1])
    findings = {
        "generic": ClaimResult(
            abs(float(gain[0, :, 0].mean())) < abs(float(gain[0, :, -1].mean())),
            "pretraining adds to a probe on the task "
            + ", ".join(
                f"{s} {spread(g, sign=True)}" for s, g in zip(stages, gain[0].T, strict=True)
            ),
        ),
        "specific": ClaimResult(
            loss.falls,
            loss.words(f"task's accuracy over the source's, {stages[0]} -> {stages[-1]}"),
        ),
    }
    panels = tuple(
        Lines(
            title,
            "stage",
            "accuracy of a linear probe",
            tuple(
                Series(
                    name,
                    np.arange(len(stages)) + 1,
                    table[side, place].mean(0),
                    np.array([sd_of(c) for c in table[side, place].T]),
                )
                for side, name in ((1, "pretrained"), (0, "random"))
            ),
            percent=True,
        )
        for place, title in enumerate(("on the task's region", "on the source's region"))
    )
    return Shown(findings, {"stages": stages, "accuracy": table, "deep": deep.values()}, panels)


def _probed(
    numbers: Transferred, where: Transferred, stage: str, number: int, *, pretrained: bool
) -> float:
    """Test accuracy of a logistic head on one stage's pooled features."""
    source, rows = sample_of(where), draw(where, number)
    model, _ = started(
        numbers, source, rows.split.train, numbers.seed, pretrained=pretrained, stages=(stage,)
    )
    train, test = (tiles_of(source, part) for part in (rows.split.train, rows.split.test))
    features = []
    for part in (train, test):
        raw = torch.from_numpy(raw_features(model, part.pack, part.rows, precision="float32"))
        features.append(model.standardise(raw).numpy())
    classes = len(source.index.classes)
    head = logistic(features[0], train.labels, PENALTY, num_classes=classes)
    return float(np.mean(head.logits(features[1]).argmax(1) == test.labels))


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "first_kernels": first_kernels,
    "stage_probes": stage_probes,
}
