"""`geotl diagnose`: what is measured of a recipe, and where its network stands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geotl.arrays import Floats, Int64s
from geotl.console import Log, Progress, ProgressLine
from geotl.data.tile_array import wanted_bands
from geotl.errors import DataError
from geotl.evaluation.metrics import wilson
from geotl.evaluation.next_steps import next_steps
from geotl.evaluation.overfitting import diagnose as judged_as
from geotl.evaluation.regularisers import everything_off, regularisers
from geotl.experiments.build import (
    build_network,
    feature_source,
    make_backbone,
    make_plan,
    read_source,
    recipe_sensor,
    settle,
    training_of,
)
from geotl.experiments.compare import fit_draw, head_logits, judge, judged_features, training_count
from geotl.experiments.draws import Draw, Source, make_draw
from geotl.experiments.recipe import Recipe, dump, resolve_root
from geotl.experiments.save import holds_run, open_run
from geotl.io.files import write_text
from geotl.models.backbone import batchnorm_use
from geotl.models.classifier import TileClassifier
from geotl.models.device import choose_device, describe
from geotl.studies.diagnosis_report import Diagnosis, lines, write_diagnosis
from geotl.studies.learning_curve import curve, curve_lines
from geotl.training.capacity import Memorised, memorise, noise_tiles
from geotl.training.features import Tiles, frozen_bytes, raw_features
from geotl.training.heads import Linear, logistic
from geotl.training.lr_finder import range_test
from geotl.training.strategies import (
    Fitted,
    head_fit,
    predict_rows,
    standardised,
    starting,
    with_head_chosen,
)

Part = dict[str, Any]

FREE = 1e6  # inverse penalty of a head that is as good as free
MOST_PATH = 2000  # training tiles above which a probe's path is not fitted anew
HELD_BYTES = 512 << 20  # of the tiles that are learnt by heart
PATHS: Mapping[str, Sequence[float]] = {
    "logistic": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3),
    "discriminant": (0.8, 0.4, 0.2, 0.1, 0.05, 0.01, 0.001),
}


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        judged: tiles never learnt from that are judged, at most.
        noise_steps: steps for the tiles of noise, at most.
        own_tiles: training tiles to be learnt by heart, at most.
        own_epochs: passes over these, at most.
        rates: steps of the range test.
    """

    judged: int = 1000
    noise_steps: int = 200
    own_tiles: int = 500
    own_epochs: int = 40
    rates: int = 100


QUICK = Extent(judged=300, noise_steps=60, own_tiles=150, own_epochs=20, rates=40)


def sampled(draw: Draw, most: int, seed: int) -> Draw:
    """A draw with at most so many tiles to judge on, drawn at random."""
    if len(draw.split.test) <= most:
        return draw
    random = np.random.default_rng([seed, draw.number, 11])
    some = np.sort(random.permutation(draw.split.test)[:most])
    return replace(draw, split=replace(draw.split, test=some))


def standing(recipe: Recipe, source: Source, draw: Draw, out: Path, *, quiet: bool) -> Part:
    """Fit the recipe and count what it names rightly, of tiles learnt from and of others."""
    fitted, _ = fit_draw(recipe, source, draw, out, resume=True, quiet=quiet)
    truth = source.labels[draw.split.test]
    right = int((judge(recipe, source, draw, fitted).argmax(axis=1) == truth).sum())
    history = fitted.history
    return {
        "train": training_count(recipe, source, draw, fitted),
        "validation": (right, len(truth)),
        "batchnorm": batchnorm_use(fitted.network.backbone),
        "history": history.epochs if history else None,
        "best_epoch": history.best_epoch if history else None,
        "head": _head_path(recipe, source, draw, fitted) if fitted.chosen else None,
    }


def _head_path(recipe: Recipe, source: Source, draw: Draw, fitted: Fitted) -> Part:
    """Accuracies of a probe's head from hard pressed to free: its learning curve."""
    chosen, kind = fitted.chosen, recipe.probe.head
    if chosen is None or fitted.features is None:
        return {}
    labels, folds = source.labels[draw.split.train], chosen.fold_accuracy
    settings = set(folds) | {chosen.setting}
    if len(labels) <= MOST_PATH:
        settings |= set(PATHS[kind])
    pixels, truth = judged_features(recipe, source, draw, fitted), source.labels[draw.split.test]
    weights = training_of(recipe, source, recipe.seed).head_weights
    fit = head_fit(kind, len(source.index.classes), weights)
    path = []
    for setting in sorted(settings, reverse=kind == "discriminant"):
        row: Part = {"setting": setting, "folds": folds.get(setting)}
        if len(labels) <= MOST_PATH:
            head = fit(fitted.features, labels, setting)
            row["train"] = _accuracy(head, fitted.features, labels)
            row["validation"] = _accuracy(head, pixels, truth)
        elif setting == chosen.setting:
            row["train"] = float(np.mean(head_logits(fitted, fitted.features).argmax(1) == labels))
            row["validation"] = float(np.mean(head_logits(fitted, pixels).argmax(1) == truth))
        path.append(row)
    return {"kind": kind, "chosen": chosen.setting, "path": path}


def _accuracy(head: Linear, features: Floats, labels: Int64s) -> float:
    return float(np.mean(head.logits(features).argmax(axis=1) == labels))


def without_regularisers(recipe: Recipe) -> Recipe:
    """The recipe with every regulariser off that has a switch, answers of one view among them."""
    made = recipe
    for key, value in everything_off().items():
        section, _, name = key.partition(".")
        inside = getattr(made, section).model_copy(update={name: value})
        made = made.model_copy(update={section: inside})
    probe = made.probe.model_copy(update={"views": 1, "unlabelled": "none"})
    start = "finetune" if made.strategy == "probe_then_finetune" else made.strategy
    return made.model_copy(update={"probe": probe, "strategy": start})


def noise_by_heart(
    recipe: Recipe, source: Source, draw: Draw, extent: Extent, told: Progress
) -> Part:
    """Whether the recipe's network, every regulariser off, learns noise with random labels."""
    bare = without_regularisers(recipe)
    base, report = build_network(bare, source, draw)
    plan = make_plan(bare, source, report, draw, resume=False, quiet=True)
    of = base.normalise
    mean, sd = (held.cpu().numpy().astype(np.float64) for held in (of.mean, of.sd))
    noise = noise_tiles(
        mean, sd, source.pack.images.shape[-1], len(source.index.classes), seed=recipe.seed
    )

    def features(network: TileClassifier, rows: Int64s) -> Floats:
        return raw_features(network, noise.pack, rows, precision=recipe.train.precision)

    if bare.strategy == "probe":
        base.eval()
        raw = features(base, noise.rows)
        told(1, 1)
        return _solved(_scaled_by_itself(raw), noise.labels, len(source.index.classes))
    network = starting(base, noise, plan, features)
    return _told(memorise(network, noise, steps=extent.noise_steps, seed=recipe.seed, told=told))


def own_by_heart(
    recipe: Recipe, source: Source, draw: Draw, extent: Extent, told: Progress
) -> Part:
    """Stage one of the lecture: the training tiles with every regulariser off, and the gap then."""
    if recipe.strategy == "probe":
        return _own_probe(recipe, source, draw, told)
    bare = without_regularisers(recipe)
    base, report = build_network(bare, source, draw)
    plan = make_plan(bare, source, report, draw, resume=False, quiet=True)
    tiles = _some(recipe, source, draw, base, extent.own_tiles)
    network = starting(base, tiles, plan, feature_source(bare, source))
    batch = min(recipe.train.batch_size, len(tiles.rows))
    steps = extent.own_epochs * -(-len(tiles.rows) // batch)
    found = memorise(network, tiles, steps=steps, batch_size=batch, seed=recipe.seed, told=told)
    test = draw.split.test
    said = predict_rows(network, source.pack, test, precision=recipe.train.precision)
    right = int((said.argmax(axis=1) == source.labels[test]).sum())
    return _told(found) | {"validation": (right, len(test))}


def _some(recipe: Recipe, source: Source, draw: Draw, base: TileClassifier, most: int) -> Tiles:
    """Training tiles to be learnt by heart, as many as are wanted and memory holds."""
    rows = draw.split.train
    one = Tiles(source.pack, rows[:1], source.labels[rows[:1]])
    each = frozen_bytes(base, one, 1)
    most = min(most, max(1, HELD_BYTES // max(1, each)))
    random = np.random.default_rng([recipe.seed, draw.number, 13])
    some = np.sort(random.permutation(rows)[:most])
    return Tiles(source.pack, some, source.labels[some])


def _own_probe(recipe: Recipe, source: Source, draw: Draw, told: Progress) -> Part:
    """Whether a free linear head on the frozen features separates the training tiles."""
    network, _ = build_network(recipe, source, draw)
    features, rows = feature_source(recipe, source), draw.split.train
    random = np.random.default_rng([recipe.seed, draw.number, 13])
    some = np.sort(random.permutation(len(rows))[:MOST_PATH])
    raw = np.array(features(network, rows), dtype=np.float32)
    network.set_feature_scale(_flat(raw, network))
    scaled = standardised(network, raw)[some, :1]
    pixels = standardised(network, features(network, draw.split.test))[:, :1]
    classes, truth = len(source.index.classes), source.labels[draw.split.test]
    head = logistic(scaled, source.labels[rows[some]], FREE, num_classes=classes)
    right = int((head.logits(pixels).argmax(axis=1) == truth).sum())
    told(1, 1)
    accuracy = _accuracy(head, scaled, source.labels[rows[some]])
    return _told(Memorised(len(some), 0, ((0, accuracy, accuracy),))) | {
        "validation": (right, len(truth))
    }


def rate_range(recipe: Recipe, source: Source, draw: Draw, extent: Extent, told: Progress) -> Part:
    """The range test of the recipe's own training; of a probe, why there is none."""
    if recipe.strategy == "probe":
        return {"none": "a probe has no learning rate: its head is solved for, not trained"}
    base, report = build_network(recipe, source, draw)
    plan = make_plan(recipe, source, report, draw, resume=False, quiet=True)
    rows, features = draw.split.train, feature_source(recipe, source)
    tiles = Tiles(source.pack, rows, source.labels[rows])
    plan = with_head_chosen(base, tiles, draw.folds, plan, features)
    network = starting(base, tiles, plan, features)
    return asdict(range_test(network, tiles, plan.training, steps=extent.rates, told=told))


def _solved(features: Floats, labels: Int64s, classes: int) -> Part:
    """How a free linear head fits features, in the words of tiles learnt by heart."""
    accuracy = _accuracy(logistic(features, labels, FREE, num_classes=classes), features, labels)
    return _told(Memorised(len(labels), 0, ((0, accuracy, accuracy),)))


def _scaled_by_itself(raw: Floats) -> Floats:
    """Features [n, 1, D] minus their mean, over their sd."""
    sd = raw.std(axis=0)
    return np.asarray((raw - raw.mean(axis=0)) / np.where(sd > 1e-6, sd, 1.0))


def _flat(raw: Floats, network: TileClassifier) -> torch.Tensor:
    """Features of all views as rows, where the network lies."""
    return torch.from_numpy(raw.reshape(-1, raw.shape[2])).to(network.feature_mean.device)


def _told(found: Memorised) -> Part:
    return {
        "tiles": found.tiles,
        "steps": found.steps,
        "accuracy": found.accuracy,
        "path": found.path,
        "looked_perfect": found.looked_perfect,
    }


@dataclass(frozen=True)
class _Setup:
    """What all parts are measured with."""

    recipe: Recipe
    source: Source
    draw: Draw
    all_judged: int
    extent: Extent
    out: Path
    quiet: bool


def diagnose(
    recipe: Recipe,
    out: Path,
    *,
    quick: bool = False,
    judged: int | None = None,
    with_curve: bool = False,
    quiet: bool = False,
    say: Log = print,
) -> Diagnosis:
    """Say where a recipe's network stands, and write figures, page and JSON.

    Args:
        recipe: with `evaluate.target`, or none.
        out: folder; a diagnosis cut short there goes on.
        quick: fewer tiles and steps.
        judged: judge on at most so many tiles; None for 1,000, or 300 when quick.
        with_curve: the label-count curve too.
        quiet: no progress.
        say: told every line.

    Raises:
        GeoTLError: input, weights or output that cannot be used.
    """
    if judged is not None and judged < 1:
        raise DataError(f"--judged: given {judged}; allowed: at least 1")
    setup, recipe = _prepared(recipe, out, quick=quick, judged=judged, quiet=quiet, say=say)
    with ProgressLine(quiet=quiet) as line:
        parts = {
            "standing": _kept(
                setup,
                "standing",
                lambda: standing(setup.recipe, setup.source, setup.draw, out / "fit", quiet=quiet),
            ),
            "noise": _kept(
                setup,
                "noise",
                lambda: noise_by_heart(
                    setup.recipe,
                    setup.source,
                    setup.draw,
                    setup.extent,
                    line.counter("learning noise by heart"),
                ),
            ),
            "own": _kept(
                setup,
                "own",
                lambda: own_by_heart(
                    setup.recipe,
                    setup.source,
                    setup.draw,
                    setup.extent,
                    line.counter("learning the training tiles by heart"),
                ),
            ),
            "rates": _kept(
                setup,
                "rates",
                lambda: rate_range(
                    setup.recipe,
                    setup.source,
                    setup.draw,
                    setup.extent,
                    line.counter("trying learning rates"),
                ),
            ),
        }
    shown = _curve(setup) if with_curve else None
    found = concluded(setup, recipe, parts, shown)
    written = write_diagnosis(out, found)
    for told in lines(found):
        say(told)
    say(f"page     {written[0]}")
    return found


def _prepared(
    recipe: Recipe, out: Path, *, quick: bool, judged: int | None, quiet: bool, say: Log
) -> tuple[_Setup, Recipe]:
    """Tiles read, the recipe settled, the folder opened; with the recipe that has the target."""
    if not recipe.data.scenes:
        resolve_root(recipe.data.root)
    sensor = recipe_sensor(recipe)
    holds_run(out, resume=True)
    make_backbone(recipe, sensor, wanted_bands(sensor, recipe.data.bands))  # weights told first
    source = read_source(recipe, sensor, say, quiet=quiet)
    recipe = settle(recipe, source, say)
    bare = _alone(recipe)
    open_run(out, dump(bare), resume=True)
    say(f"computing on {describe(choose_device(), recipe.train.precision)}")
    extent = QUICK if quick else Extent()
    whole = make_draw(recipe, source, 0)
    draw = sampled(whole, judged or extent.judged, recipe.seed)
    return _Setup(bare, source, draw, len(whole.split.test), extent, out, quiet), recipe


def _alone(recipe: Recipe) -> Recipe:
    """The recipe for a single draw with nothing beside it, and without a target."""
    evaluate = recipe.evaluate.model_copy(update={"target": None, "random_split": False})
    split = recipe.split
    if not split.kfold:  # folds are the draws
        split = split.model_copy(update={"draws": 1})
    probe = recipe.probe.model_copy(update={"unlabelled": "none"})
    return recipe.model_copy(update={"evaluate": evaluate, "split": split, "probe": probe})


def _kept(setup: _Setup, name: str, measure: Callable[[], Part]) -> Part:
    """A part as it was kept, or measured now and kept, if it was measured to the same extent."""
    path = setup.out / "parts" / f"{name}.json"
    key = [repr(setup.extent), len(setup.draw.split.test)]
    if path.exists():
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["key"] == key:
            kept: Part = held["found"]
            return kept
    found = measure()
    text = json.dumps({"key": key, "found": found})
    write_text(path, text)
    again: Part = json.loads(text)["found"]
    return again


def _curve(setup: _Setup) -> tuple[bytes, tuple[str, ...]]:
    """The label-count curve, measured by `geotl curve`'s own code or kept from before."""
    folder = setup.out / "curve"
    told: list[str] = []
    if not (folder / "curve.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)  # what was cut short there has no end
        told = curve_lines(curve(setup.recipe, folder, quiet=setup.quiet, say=lambda _: None))
        write_text(folder / "lines.txt", "\n".join(told))
    told = (folder / "lines.txt").read_text(encoding="utf-8").splitlines()
    return (folder / "curve.png").read_bytes(), tuple(told)


def concluded(
    setup: _Setup, recipe: Recipe, parts: dict[str, Part], shown: Any = None
) -> Diagnosis:
    """Verdict and advice from what was measured."""
    held = parts["standing"]
    verdict = judged_as(wilson(*held["train"]), wilson(*held["validation"]), recipe.evaluate.target)
    found = regularisers(recipe.model_dump(), batchnorm=held["batchnorm"])
    judged = len(setup.draw.split.test)
    steps = next_steps(
        verdict,
        found,
        recipe.strategy,
        stage_one=parts["own"]["accuracy"],
        more_tiles=judged < setup.all_judged,
    )
    facts = {
        "Recipe": recipe.name,
        "Strategy": recipe.strategy,
        "Training tiles": f"{len(setup.draw.split.train):,}; accuracy read on {held['train'][1]:,}",
        "Validation tiles": f"{judged:,} of {setup.all_judged:,}, never learnt from",
        "Device": describe(choose_device(), recipe.train.precision),
        "Seed": str(recipe.seed),
    }
    return Diagnosis(
        title=recipe.title or recipe.name,
        strategy=recipe.strategy,
        verdict=verdict,
        steps=steps,
        regularisers=tuple(found),
        parts=parts,
        lr=recipe.train.lr,
        facts=facts,
        curve=shown,
        recipe=dump(recipe),
    )
