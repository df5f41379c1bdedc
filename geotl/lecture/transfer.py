"""Transfer learning shown: pretrained on one region of the samples, trained on the other."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from geotl._version import __version__
from geotl.arrays import Float64s, Int64s
from geotl.data.tile_array import batch
from geotl.experiments.samples import TileSamples
from geotl.io.cache_entries import kept
from geotl.io.files import cache_folder, sha256_of, whole_file
from geotl.lecture.figures import Bars, ClaimResult, Lines, MeanChange, Shown, sd_of, spread
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
    waited,
)
from geotl.models.backbone import freeze
from geotl.models.classifier import TileClassifier
from geotl.models.registry import get_backbone
from geotl.training.features import raw_features

BACKBONE = "backbone.safetensors"
PENALTY = 0.1  # of the probes


def source_numbers(numbers: Transferred) -> Transferred:
    """The source task of a transfer: the other region, with its own tiles and epochs."""
    other = "source" if numbers.region == "target" else "target"
    changed = {"region": other, "shots": numbers.source_shots, "epochs": numbers.source_epochs}
    return numbers.model_copy(update=changed)


def pretrained_file(numbers: Transferred) -> Path:
    """The backbone trained on the source task, from the cache folder or trained now.

    It is known by everything it depends on, so that several demonstrations share one file.
    """
    task = source_numbers(numbers)
    source, rows = sample_of(task), draw(task, 0)
    start = network(source, rows.split.train, task, numbers.seed)
    keys = (
        "region",
        "bands",
        "shots",
        "epochs",
        "backbone",
        "cut_after",
        "input_px",
        "batch_size",
        "lr",
        "seed",
    )
    identity = {key: getattr(task, key) for key in keys} | {"geotl": __version__}
    identity |= {"tiles": source.pack.fingerprint, "threads": torch.get_num_threads()}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]

    def make(part: Path) -> None:
        fit = learn(start, source, rows, plain_training(task, numbers.seed))
        state = {k: v.contiguous() for k, v in fit.last.backbone.state_dict().items()}
        with whole_file(part / BACKBONE) as path:
            save_file(state, path)

    return kept(cache_folder() / "lecture" / digest, make) / BACKBONE


def started(
    numbers: Transferred,
    source: TileSamples,
    rows: Int64s,
    seed: int,
    *,
    pretrained: bool,
    stages: Sequence[str] = (),
) -> tuple[TileClassifier, str]:
    """A network for the task from random or pretrained weights, and the weights' sha256.

    Both have the same head; features are standardised by the training tiles in both.
    """
    if pretrained and numbers.weights:
        path = Path(numbers.weights).expanduser()
        model = network(source, rows, numbers, seed, weights=str(path), stages=stages)
    else:
        model = network(source, rows, numbers, seed, stages=stages)
    digest = ""
    if pretrained:
        path = Path(numbers.weights).expanduser() if numbers.weights else pretrained_file(numbers)
        digest = sha256_of(path)
        if not numbers.weights:
            model.backbone.load_state_dict(load_file(path))
            model.backbone.random_stages = frozenset()
    raw = raw_features(model, source.pack, rows, precision="float32")
    model.set_feature_scale(torch.from_numpy(raw.reshape(-1, raw.shape[2])))
    return model, digest


def trained(
    numbers: Transferred,
    number: int,
    *,
    pretrained: bool,
    upto: str | None = None,
    watch: bool = False,
) -> tuple[TileClassifier, TrainedNetwork]:
    """One training on the task, complete or from a frozen stage on: its start and its result."""
    source, rows = sample_of(numbers), draw(numbers, number)
    seed = numbers.seed + number
    model, _ = started(numbers, source, rows.split.train, seed, pretrained=pretrained)
    freeze(model.backbone, upto)
    model.frozen_until = upto
    return model, learn(model, source, rows, plain_training(numbers, seed), watch=watch)


def transfer_or_random(numbers: Transferred) -> Shown:
    """The same task from random and from pretrained weights: each of the lecture's claims."""
    arms: list[list[TrainedNetwork]] = [[], []]
    for number in range(numbers.seeds):
        for side, pretrained in enumerate((False, True)):
            arms[side].append(trained(numbers, number, pretrained=pretrained, watch=True)[1])
    wait = MeanChange.of(
        *([waited(o, "val_accuracy", numbers.goal, numbers.epochs) for o in a] for a in arms)
    )
    test, gap = compared(arms, "test"), compared(arms, "gap")
    first = MeanChange.of(*([float(curve(o.history, "val_accuracy")[0]) for o in a] for a in arms))
    spreads = sd_of(test.off), sd_of(test.on)
    findings = {
        "compute": ClaimResult(
            wait.falls,
            wait.words(
                f"epochs to {numbers.goal:.0%} test accuracy (never: {numbers.epochs + 1})", 1
            ),
        ),
        "stability": ClaimResult(
            spreads[1] < spreads[0],
            f"sd of the test accuracy over {numbers.seeds} seeds {spreads[0]:.3f} -> "
            f"{spreads[1]:.3f}",
        ),
        "overfitting": ClaimResult(gap.falls, gap.words("training minus test accuracy")),
        "generalisation": ClaimResult(test.rises, test.words("test accuracy")),
        "start": ClaimResult(first.rises, first.words("test accuracy after the first epoch")),
    }
    series = (
        band("pretrained on the source", arms[1], "val_accuracy"),
        band("random", arms[0], "val_accuracy"),
    )
    panel = Lines(
        "test accuracy, mean ± sd over seeds",
        "epoch",
        "accuracy",
        series,
        percent=True,
        level=(numbers.goal, "waited for"),
    )
    path = Path(numbers.weights).expanduser() if numbers.weights else pretrained_file(numbers)
    values = {
        "wait": wait.values(),
        "judged": test.values(),
        "gap": gap.values(),
        "first": first.values(),
        "weights_sha256": sha256_of(path),
    }
    return Shown(findings, values, (panel,))


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


def search_space(numbers: Transferred) -> Shown:
    """How far training moves each stage from random, pretrained and partly frozen weights."""
    kinds: Mapping[str, tuple[bool, bool]] = {
        "random": (False, False),
        "pretrained": (True, False),
        "first stage frozen": (True, True),
    }
    moves: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    untouched = []
    for number in range(numbers.seeds):
        for name, (pretrained, frozen) in kinds.items():
            upto = get_backbone(numbers.backbone).stages[0] if frozen else None
            start, fit = trained(numbers, number, pretrained=pretrained, upto=upto)
            moves[name].append(distances(start, fit.last))
            if upto:
                untouched.append(_same_state(start, fit.last, upto))
    stages = tuple(moves["random"][0])
    table = {n: np.array([[d[s] for s in stages] for d in rows]) for n, rows in moves.items()}
    change = MeanChange.of(table["random"].mean(axis=1), table["pretrained"].mean(axis=1))
    frozen_moved = float(table["first stage frozen"][:, 0].max())
    findings = {
        "smaller": ClaimResult(
            change.falls, change.words("distance from the first weights, over their norm")
        ),
        "frozen": ClaimResult(
            frozen_moved == 0 and all(untouched),
            f"the frozen stage moved by {frozen_moved:g}; parameters and buffers bit-identical in "
            f"{sum(untouched)} of {len(untouched)} seeds",
        ),
    }
    panel = Bars(
        "distance from the first weights",
        stages,
        {name: part.mean(axis=0).tolist() for name, part in table.items()},
        label="over the weights' norm",
        sds={name: [sd_of(c) for c in part.T] for name, part in table.items()},
    )
    return Shown(findings, {"stages": stages, **table}, (panel,))


def _same_state(before: TileClassifier, after: TileClassifier, stage: str) -> bool:
    """Whether a stage's parameters and buffers are the same bits."""
    second = after.backbone.stages[stage].state_dict()
    return all(
        torch.equal(tensor, second[name])
        for name, tensor in before.backbone.stages[stage].state_dict().items()
    )


def freezing_depth(numbers: Transferred) -> Shown:
    """Frozen up to each stage in turn: accuracy, images a second, trained parameters."""
    source = sample_of(numbers)
    probe, _ = started(numbers, source, draw(numbers, 0).split.train, numbers.seed, pretrained=True)
    depths = (None, *probe.backbone.stage_names)
    names = ("nothing", *(f"to {stage}" for stage in probe.backbone.stage_names))
    test, speed, learning = np.zeros((numbers.seeds, len(depths))), [], []
    moved: list[dict[str, float]] = []
    for place, upto in enumerate(depths):
        for number in range(numbers.seeds):
            start, fit = trained(numbers, number, pretrained=True, upto=upto)
            test[number, place] = fit.test
        moved.append(distances(start, fit.last))
        learning.append(sum(p.numel() for p in start.parameters() if p.requires_grad))
        speed.append(images_per_second(start, source, draw(numbers, 0).split.train[:32]))
    first_two = MeanChange.of(test[:, 0], test[:, min(2, len(depths) - 1)])
    faster = speed[-1] / speed[0]
    findings = {
        "time": ClaimResult(
            faster >= 2,
            f"{speed[0]:.0f} images a second with nothing frozen, {speed[-1]:.0f} with the head "
            f"alone: {faster:.1f} times as many, before any caching of frozen stages",
        ),
        "generic": ClaimResult(
            not first_two.falls,
            first_two.words(
                f"test accuracy, nothing frozen -> frozen {names[min(2, len(depths) - 1)]}"
            ),
        ),
        "specific": _deepest(test, names),
    }
    panels = (
        Bars(
            "test accuracy",
            names,
            {"": test.mean(0).tolist()},
            sds={"": [sd_of(c) for c in test.T]},
            words={"": [spread(c) for c in test.T]},
            label="frozen",
            percent=True,
        ),
        Bars(
            "images a second in training",
            names,
            {"": speed},
            label="images/s",
            words={"": [f"{n:,} trained" for n in learning]},
        ),
    )
    values = {
        "frozen": names,
        "judged": test,
        "images_s": speed,
        "parameters": learning,
        "distance": moved,
    }
    return Shown(findings, values, panels)


def _deepest(test: Float64s, names: Sequence[str]) -> ClaimResult:
    """Whether freezing even the deepest stage costs accuracy."""
    change = MeanChange.of(test[:, 0], test[:, -1])
    return ClaimResult(change.falls, change.words(f"test accuracy, nothing frozen -> {names[-1]}"))


def images_per_second(
    model: TileClassifier, source: TileSamples, rows: Int64s, passes: int = 5
) -> float:
    """Images a second through forward and backward, the frozen part without gradients.

    The best of some passes, so that a busy machine matters less.
    """
    fill = model.normalise.fill.numpy().astype(np.float64)
    image = batch(source.pack, rows, fill=fill)["image"]
    labels = torch.from_numpy(source.labels[rows])
    model.train()
    best = float("inf")
    for _ in range(passes + 1):
        begun = time.perf_counter()
        model.zero_grad()
        logits = model.classify(model.standardise(model.finish(model.frozen_part(image))))
        F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
        best = min(best, time.perf_counter() - begun)
    return len(rows) / best


DEMONSTRATIONS: Mapping[str, Callable[[Any], Shown]] = {
    "transfer_or_random": transfer_or_random,
    "search_space": search_space,
    "freezing_depth": freezing_depth,
}
