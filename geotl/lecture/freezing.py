"""Freezing shown: up to each stage in turn, what it saves and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from geotl.arrays import Float64s, Int64s
from geotl.evaluation.metrics import mean_interval
from geotl.experiments.samples import TileSamples
from geotl.lecture.figures import Bars, ClaimResult, MeanChange, Shown, sd_of
from geotl.lecture.recipes import Transferred
from geotl.lecture.samples import draw, pixels, sample_of
from geotl.lecture.texts import Both
from geotl.lecture.transfer import TEST, trained
from geotl.models.classifier import TileClassifier
from geotl.models.registry import get_backbone

MARGIN = 0.03  # accuracy whose loss does not matter
LITTLE = Both(
    fr=f" ; une baisse de moins de {MARGIN:g} ne compte pas",
    en=f"; a loss below {MARGIN:g} does not count",
)


def freezing_depth(numbers: Transferred) -> Shown:
    """Frozen up to each stage in turn: accuracy, operations of a step, and its time."""
    source = sample_of(numbers)
    stages = get_backbone(numbers.backbone).stages
    stages = stages[: stages.index(numbers.cut_after or stages[-1]) + 1]
    depths = (None, *stages)
    test = np.zeros((numbers.seeds, len(depths)))
    starts = []
    for place, upto in enumerate(depths):
        for number in range(numbers.seeds):
            start, fit = trained(numbers, number, pretrained=True, upto=upto)
            test[number, place] = fit.test
        starts.append(start)
    rows = draw(numbers, 0).split.train[:32]
    steps = [TrainingStep(start, source, rows) for start in starts]
    operations = [step.operations() for step in steps]
    return freezing_shown(stages, test, operations, processor_seconds(steps))


def freezing_shown(
    stages: Sequence[str],
    test: Float64s,
    operations: Sequence[int],
    seconds: Sequence[float],
) -> Shown:
    """Findings of trainings by freezing depth, and their figure.

    Args:
        stages: that are frozen, one more each time after nothing.
        test: accuracies [seeds, 1 + stages].
        operations: of a training step, for each depth.
        seconds: of a processor for a training step, for each depth.
    """
    names = _names(stages)
    fewer, faster = operations[0] / operations[-1], seconds[0] / seconds[-1]
    shallow = min(2, len(stages))
    generic = MeanChange.of(test[:, 0], test[:, shallow])
    specific = MeanChange.of(test[:, 0], test[:, -1])
    low = mean_interval(generic.change).low if len(test) > 1 else -1.0
    findings = {
        "time": ClaimResult(fewer >= 2 and faster > 1, _time_words(fewer, faster)),
        "generic": ClaimResult(low > -MARGIN, _frozen_words(generic, names[shallow], LITTLE)),
        "specific": ClaimResult(specific.falls, _frozen_words(specific, names[-1])),
    }
    frozen = Both(fr=f"gelé {names[shallow].fr}", en=f"frozen {names[shallow].en}")
    panels = _accuracies(generic.title(frozen), names, test), _step_bars(names, operations, fewer)
    values = {
        "frozen": ["", *stages],
        "test": test,
        "operations": list(operations),
        "processor_seconds": list(seconds),
    }
    return Shown(findings, values, panels)


def _names(stages: Sequence[str]) -> tuple[Both, ...]:
    """What is frozen: nothing, and up to each stage."""
    upto = (Both(fr=f"jusqu'à {stage}", en=f"to {stage}") for stage in stages)
    return (Both(fr="rien", en="nothing"), *upto)


def _time_words(fewer: float, faster: float) -> Both:
    """What a training step of the head alone saves."""
    return Both(
        fr=f"un pas d'entraînement demande {fewer:.1f} fois moins d'opérations et "
        f"{faster:.1f} fois moins de temps de processeur quand la tête seule apprend",
        en=f"a training step takes {fewer:.1f} times fewer operations and {faster:.1f} times "
        "less processor time when the head alone learns",
    )


def _accuracies(title: Both, names: Sequence[Both], test: Float64s) -> Bars:
    """Test accuracies by what is frozen."""
    return Bars(
        title,
        tuple(names),
        {"": test.mean(0).tolist()},
        sds={"": [sd_of(c) for c in test.T]},
        words={"": [f"{c.mean():.0%}" for c in test.T]},
        label=TEST,
        percent=True,
    )


def _step_bars(names: Sequence[Both], operations: Sequence[int], fewer: float) -> Bars:
    """Operations of a training step by what is frozen."""
    return Bars(
        Both(
            fr=f"calcul d'un pas : {fewer:.1f} fois moins",
            en=f"computing of a step: {fewer:.1f} times less",
        ),
        tuple(names),
        {"": [count / 1e9 for count in operations]},
        label=Both(fr="milliards d'opérations", en="thousand million operations"),
        words={"": [f"{count / 1e9:.1f}" for count in operations]},
    )


def _frozen_words(change: MeanChange, name: Both, more: Both | None = None) -> Both:
    """What freezing up to a stage does to the test accuracy."""
    words = change.both(
        Both(
            fr=f"rien de gelé -> gelé {name.fr} : {TEST.fr}",
            en=f"nothing frozen -> frozen {name.en}: {TEST.en}",
        )
    )
    return Both(fr=words.fr + more.fr, en=words.en + more.en) if more else words


class TrainingStep:
    """Forward and backward of one batch, the frozen part without gradients."""

    def __init__(self, model: TileClassifier, source: TileSamples, rows: Int64s) -> None:
        """Read the batch."""
        self.model = model.train()
        self.image = pixels(model, source, rows)
        self.labels = torch.from_numpy(source.labels[rows])

    def __call__(self) -> None:
        """Do it."""
        self.model.zero_grad()
        maps = self.model.frozen_part(self.image)
        logits = self.model.classify(self.model.standardise(self.model.finish(maps)))
        F.cross_entropy(logits, self.labels).backward()  # type: ignore[no-untyped-call]

    def operations(self) -> int:
        """Additions and multiplications of its convolutions and matrices."""
        with FlopCounterMode(display=False) as counter:
            self()
        return int(counter.get_total_flops())


def processor_seconds(steps: Sequence[Callable[[], None]], passes: int = 5) -> list[float]:
    """Least processor time of each step [s], taken in turns: a busy machine matters less."""
    least = [float("inf")] * len(steps)
    for _ in range(passes + 1):
        for place, step in enumerate(steps):
            begun = time.process_time()
            step()
            least[place] = min(least[place], time.process_time() - begun)
    return least


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {"freezing_depth": freezing_depth}
