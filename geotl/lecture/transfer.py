"""Transfer learning shown: from random weights and from those of a source network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from geotl.arrays import Int64s
from geotl.errors import ModelError
from geotl.experiments.samples import TileSamples
from geotl.io.files import sha256_of
from geotl.lecture.figures import Bars, ClaimResult, Lines, MeanChange, Shown, sd_of
from geotl.lecture.recipes import Transferred
from geotl.lecture.samples import (
    TrainedNetwork,
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
from geotl.lecture.texts import Both
from geotl.lecture.words import EPOCH
from geotl.models.backbone import Backbone, freeze
from geotl.models.classifier import TileClassifier
from geotl.training.features import raw_features
from geotl.training.strategies import predict_rows

SOURCE_FILE = "source_network.safetensors"  # made by sample_tiles/make_source_network.py
SOURCE_SHA256 = "3a9a3deeeaabbc9be839a2ddc2e2c45bf2d7309f83ad71729807ff80977a90d4"
SOURCE_BACKBONE, SOURCE_BANDS = "resnet18", ("B02", "B03", "B04", "B08")
SOURCE_STAGES = ("stem", "layer1", "layer2")
SECOND = 500  # added to a seed for the second training on the same tiles
PRETRAINED = Both(fr="poids préentraînés", en="pretrained")
RANDOM = Both(fr="poids aléatoires", en="random")
TEST = Both(fr="exactitude sur le test", en="test accuracy")
FIRST_EPOCH = Both(
    fr="exactitude sur le test après la première époque",
    en="test accuracy after the first epoch",
)
UNLIKE = Both(
    fr="part des tuiles de test que deux départs sur les mêmes tuiles d'entraînement classent "
    "autrement",
    en="share of test tiles that two starts on the same training tiles classify differently",
)


def source_state() -> dict[str, Tensor]:
    """The shipped source network's tensors by name, float32.

    Raises:
        ModelError: the file is not the one that was shipped.
    """
    with as_file(files("geotl.lecture") / "assets" / SOURCE_FILE) as path:
        if sha256_of(path) != SOURCE_SHA256:
            raise ModelError(f"{path}: not the file that came with geotl; install it again")
        return {name: tensor.float() for name, tensor in load(path.read_bytes()).items()}


def load_source(backbone: Backbone) -> None:
    """Put the source network's weights into a backbone of the same kind.

    Raises:
        ModelError: another backbone, other bands, or a later stage.
    """
    kind = (backbone.name, backbone.bands, backbone.stage_names)
    if kind != (SOURCE_BACKBONE, SOURCE_BANDS, SOURCE_STAGES[: len(backbone.stage_names)]):
        raise ModelError(
            f"the source network is a {SOURCE_BACKBONE} to {SOURCE_STAGES[-1]} in "
            f"{' '.join(SOURCE_BANDS)}; for {backbone.name} to {backbone.stage_names[-1]} in "
            f"{' '.join(backbone.bands)} give weights=FILE"
        )
    state = source_state()
    here = backbone.state_dict()
    backbone.load_state_dict({name: state.get(name, tensor) for name, tensor in here.items()})
    backbone.random_stages = frozenset()


def weights_sha256(numbers: Transferred) -> str:
    """SHA-256 of the pretrained weights."""
    return sha256_of(Path(numbers.weights).expanduser()) if numbers.weights else SOURCE_SHA256


def started(
    numbers: Transferred,
    source: TileSamples,
    rows: Int64s,
    seed: int,
    *,
    pretrained: bool,
    stages: Sequence[str] = (),
) -> TileClassifier:
    """A network for the task from random or pretrained weights.

    Both have the same head; features are standardised by the training tiles in both.
    """
    path = str(Path(numbers.weights).expanduser()) if numbers.weights and pretrained else "none"
    model = network(source, rows, numbers, seed, weights=path, stages=stages)
    if pretrained and not numbers.weights:
        load_source(model.backbone)
    raw = raw_features(model, source.pack, rows, precision="float32")
    model.set_feature_scale(torch.from_numpy(raw.reshape(-1, raw.shape[2])))
    return model


def trained(
    numbers: Transferred,
    number: int,
    *,
    pretrained: bool,
    upto: str | None = None,
    watch: bool = False,
    second: bool = False,
) -> tuple[TileClassifier, TrainedNetwork]:
    """One training on the task, complete or from a frozen stage on: its start and its result.

    Args:
        numbers: the task.
        number: of the draw.
        pretrained: whether the first weights are those of the source network.
        upto: last frozen stage.
        watch: test after every epoch.
        second: another start (head, order, and random weights) on the same tiles.
    """
    source, rows = sample_of(numbers), draw(numbers, number)
    seed = numbers.seed + number + (SECOND if second else 0)
    model = started(numbers, source, rows.split.train, seed, pretrained=pretrained)
    freeze(model.backbone, upto)
    model.frozen_until = upto
    return model, learn(model, source, rows, plain_training(numbers, seed), watch=watch)


def disagreement(numbers: Transferred, number: int, fits: Sequence[TrainedNetwork]) -> float:
    """Share of test tiles to which two trainings on the same tiles give different classes."""
    tiles = tiles_of(sample_of(numbers), draw(numbers, number).split.test)
    first, second = (
        predict_rows(fit.last, tiles.pack, tiles.rows, precision="float32").argmax(axis=1)
        for fit in fits
    )
    return float(np.mean(first != second))


def transfer_or_random(numbers: Transferred) -> Shown:
    """The same task from random and from pretrained weights: each of the lecture's claims."""
    arms: list[list[TrainedNetwork]] = [[], []]
    unlike: list[list[float]] = [[], []]
    for number in range(numbers.seeds):
        for side, pretrained in enumerate((False, True)):
            fit = trained(numbers, number, pretrained=pretrained, watch=True)[1]
            again = trained(numbers, number, pretrained=pretrained, second=True)[1]
            arms[side].append(fit)
            unlike[side].append(disagreement(numbers, number, (fit, again)))
    return transfer_shown(numbers, arms, MeanChange.of(*unlike))


def transfer_shown(
    numbers: Transferred, arms: Sequence[Sequence[TrainedNetwork]], unlike: MeanChange
) -> Shown:
    """Findings of trainings from random and from pretrained weights, and their figure.

    Args:
        numbers: the task.
        arms: the trainings from random and from pretrained weights, seed by seed.
        unlike: share of test tiles that two starts classify differently.
    """
    wait, first = _waits(numbers, arms), _first_epochs(arms)
    test, gap = compared(arms, "test"), compared(arms, "gap")
    lowest = min(fit.train for arm in arms for fit in arm)
    findings = {
        "compute": ClaimResult(wait.falls, wait.both(_waits_words(numbers), 1)),
        "stability": ClaimResult(unlike.falls, unlike.both(UNLIKE)),
        "overfitting": ClaimResult(gap.falls, gap.both(_gap_words(lowest))),
        "generalisation": ClaimResult(test.rises, test.both(TEST)),
        "start": ClaimResult(first.rises, first.both(FIRST_EPOCH)),
    }
    values = {
        "wait": wait.values(),
        "test": test.values(),
        "gap": gap.values(),
        "train": lowest,
        "first": first.values(),
        "unlike": unlike.values(),
        "weights_sha256": weights_sha256(numbers),
    }
    return Shown(findings, values, (_by_epoch(numbers, arms, test), _instability(unlike)))


def _waits(numbers: Transferred, arms: Sequence[Sequence[TrainedNetwork]]) -> MeanChange:
    """Epochs to the goal, from random and from pretrained weights."""
    goal, epochs = numbers.goal, numbers.epochs
    return MeanChange.of(*([waited(o, "val_accuracy", goal, epochs) for o in a] for a in arms))


def _waits_words(numbers: Transferred) -> Both:
    goal, never = f"{numbers.goal:.0%}", numbers.epochs + 1
    return Both(
        fr=f"époques jusqu'à {goal} d'exactitude sur le test (jamais : {never})",
        en=f"epochs to {goal} test accuracy (never: {never})",
    )


def _first_epochs(arms: Sequence[Sequence[TrainedNetwork]]) -> MeanChange:
    """Test accuracy after one epoch, from random and from pretrained weights."""
    return MeanChange.of(*([float(curve(o.epochs, "val_accuracy")[0]) for o in a] for a in arms))


def _gap_words(lowest: float) -> Both:
    """The gap in words, with the lowest training accuracy of all."""
    return Both(
        fr=f"tous les réseaux savent {lowest:.0%} ou plus de l'entraînement ; écart entre "
        "entraînement et test",
        en=f"all networks know {lowest:.0%} or more of the training tiles; gap between training "
        "and test accuracy",
    )


def _by_epoch(
    numbers: Transferred, arms: Sequence[Sequence[TrainedNetwork]], test: MeanChange
) -> Lines:
    """Test accuracy by epoch from both kinds of weights, and the goal."""
    return Lines(
        test.changes(Both(fr="L'exactitude de test", en="The test accuracy")),
        EPOCH,
        TEST,
        (band(PRETRAINED, arms[1], "val_accuracy"), band(RANDOM, arms[0], "val_accuracy")),
        percent=True,
        level=(numbers.goal, Both(fr="seuil", en="goal")),
    )


def _instability(unlike: MeanChange) -> Bars:
    """Share of test tiles with two classes, from both kinds of weights."""
    return Bars(
        unlike.changes(Both(fr="L'instabilité", en="The instability")),
        (RANDOM, PRETRAINED),
        {"": [float(unlike.off.mean()), float(unlike.on.mean())]},
        label=Both(
            fr="deux départs, deux classes (part des tuiles)",
            en="two starts, two classes (share of tiles)",
        ),
        sds={"": [sd_of(unlike.off), sd_of(unlike.on)]},
        words={"": [f"{float(part.mean()):.2f}" for part in (unlike.off, unlike.on)]},
        percent=True,
    )


def distances(before: TileClassifier, after: TileClassifier) -> dict[str, float]:
    """Distance of each stage's parameters from where they began, over their norm there."""
    by_stage = {}
    for stage, module in before.backbone.stages.items():
        first = [p.detach().double() for p in module.parameters()]
        last = [p.detach().double() for p in after.backbone.stages[stage].parameters()]
        moved = sum(float((a - b).square().sum()) for a, b in zip(first, last, strict=True))
        size = sum(float(a.square().sum()) for a in first)
        by_stage[stage] = (moved / size) ** 0.5
    return by_stage


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {"transfer_or_random": transfer_or_random}
