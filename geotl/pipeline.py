"""The whole story: tiles to a trained, judged, saved model, readable at one sitting."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geotl import splits
from geotl.augment import Augmentation
from geotl.backbones import build_backbone
from geotl.baselines import band_statistics, band_statistics_logits
from geotl.device import choose_device, describe
from geotl.errors import BandError, DataError, RecipeError
from geotl.evaluation import Evaluation, Spread, commonest, evaluate, summarise_draws
from geotl.features import cached_features
from geotl.heads import Folds, with_unlabelled
from geotl.loading import Pack, fingerprint, pack, statistics
from geotl.model import FeatureSpec, Normalise, TileClassifier
from geotl.modelfile import Companions, Contract, ModelFile, save
from geotl.publishing import Outcome, publish
from geotl.recipe import Recipe, dump, resolve_root, resolve_weights
from geotl.rendering import default_colours
from geotl.runfolder import cache_folder, open_run, read_metrics
from geotl.scoring import Interval, Scores, confusion, scores, wilson
from geotl.sensors import Sensor, custom_sensor, get_sensor
from geotl.strategies import Fitted, Plan, fit_strategy, install, predict_rows, standardised
from geotl.tiles import TileIndex, index_folder
from geotl.training import Tiles, TrainSettings
from geotl.weights import WeightReport

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]
Say = Callable[[str], None]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's, of RGB in 0..1


@dataclass(frozen=True)
class Source:
    """The labelled tiles of a run, packed."""

    index: TileIndex
    sensor: Sensor
    pack: Pack

    @property
    def labels(self) -> Ints:
        """Class of each tile."""
        return self.index.labels


@dataclass(frozen=True)
class Draw:
    """One drawing of training labels: its split and the folds inside the training part."""

    number: int
    split: splits.Split
    folds: Folds


@dataclass
class Tally:
    """Scores by method, draw by draw."""

    scores: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def add(self, method: str, truth: Ints, logits: Floats, classes: int) -> None:
        """Note how a method did on one draw."""
        result = scores(confusion(truth, logits.argmax(1), classes))
        self.scores.setdefault(method, []).append(_summary(result))

    def spreads(self) -> dict[str, dict[str, Spread]]:
        """Mean and sd of every score, by method."""
        return {method: summarise_draws(rows) for method, rows in self.scores.items()}


def run(
    recipe: Recipe, out: Path, *, resume: bool = False, quiet: bool = False, say: Say = print
) -> dict[str, Any]:
    """Run a recipe into a folder and return its metrics.

    Raises:
        GeoTLError: input, weights or output that cannot be used; the message says what to do.
    """
    source_root = resolve_root(recipe.data.root)
    sensor = recipe_sensor(recipe)
    if open_run(out, dump(recipe), resume=resume):
        metrics = read_metrics(out)
        say(f"{out}: already finished. {metrics['headline']}")
        return metrics
    started = time.perf_counter()
    source = read_source(recipe, source_root, sensor, say)
    say(f"computing on {describe(choose_device(), recipe.train.precision)}")
    tally = Tally()
    first: tuple[Draw, Fitted, Floats, WeightReport, dict[str, Interval]] | None = None
    for number in range(recipe.split.draws):
        draw = make_draw(recipe, source, number)
        begun = time.perf_counter()
        fitted, report = fit_draw(recipe, source, draw, out, resume=resume, quiet=quiet)
        tally.seconds.append(time.perf_counter() - begun)
        if number == 0:
            say(report.summary())
        logits = judge(recipe, source, draw, fitted)
        rivals = compare(recipe, source, draw, fitted, logits, tally=tally, out=out, quiet=quiet)
        if first is None:
            first = (draw, fitted, logits, report, rivals)
        if recipe.split.draws > 1:
            mean = tally.spreads()["network"]["overall"]
            say(f"draw {number + 1}/{recipe.split.draws}: mean overall accuracy {mean}")
    if first is None:
        raise RecipeError("split.draws: given 0; allowed: at least 1")
    draw, fitted, logits, report, rivals = first
    seconds = time.perf_counter() - started
    result = evaluate(
        logits, source.labels[draw.split.test], source.index.classes,
        temperature=float(fitted.network.temperature), seed=recipe.seed,
        rounds=recipe.evaluate.bootstrap_rounds or 1, rivals=rivals,
    )  # fmt: skip
    outcome = Outcome(
        out=out,
        title=recipe.title or recipe.name,
        recipe=dump(recipe),
        result=result,
        spreads=tally.spreads(),
        fit_seconds=tally.seconds,
        facts=run_facts(recipe, source, draw, seconds),
        weights=report,
        history=fitted.history,
        chosen=fitted.chosen,
    )
    save_models(recipe, source, draw, fitted, report=report, metrics=outcome.metrics(), out=out)
    metrics = publish(
        outcome, source.pack, draw.split.test, source.labels[draw.split.test], logits,
        names=source.index.names, most=recipe.evaluate.mistakes, colours=colours_of(recipe, source),
        rgb=rgb_positions(source),
    )  # fmt: skip
    for line in outcome.lines():
        say(line)
    say(f"model    {out / 'model.safetensors'}\nreport   {out / 'report.html'}")
    return metrics


def recipe_sensor(recipe: Recipe) -> Sensor:
    """The sensor a recipe means."""
    own = recipe.data.custom_sensor
    if own is None:
        return get_sensor(recipe.data.sensor)
    bands = [band.model_dump() for band in own.bands]
    return custom_sensor("custom", bands, own.scale, own.offset, own.nodata)


def read_source(recipe: Recipe, root: Path, sensor: Sensor, say: Say) -> Source:
    """Index the tiles, and pack them or find them packed."""
    data = recipe.data
    index = index_folder(root, table=data.table)
    names = ("bands", "file_bands", "tile_px", "fit")
    options: dict[str, Any] = {name: getattr(data, name) for name in names}
    folder = cache_folder() / "packs" / fingerprint(index, sensor, **options)[:32]
    packed = pack(index, sensor, folder=folder, **options)
    px = packed.images.shape[-1]
    say(
        f"{len(index)} tiles of {len(index.classes)} classes, {px}x{px} px, "
        f"bands {', '.join(packed.bands)}"
    )
    return Source(index, sensor, packed)


def make_draw(recipe: Recipe, source: Source, number: int) -> Draw:
    """Split the tiles for one draw; draw n of seed s is draw 0 of seed s + n."""
    told, index = recipe.split, source.index
    labels, seed = source.labels, recipe.seed + number
    same: dict[str, Any] = {"content": index.contents, "names": index.classes}
    groups = [tile.group for tile in index.tiles]
    if told.method == "shots":
        split = splits.k_shot(labels, told.shots or 1, seed=seed, **same)
    elif told.method == "stratified":
        split = splits.stratified(labels, told.test_fraction, seed=seed, **same)
    elif told.method == "column":
        split = splits.by_column([t.split for t in index.tiles], labels=labels, **same)
    else:
        split = splits.by_group(groups, labels, told.test_fraction, seed=seed, **same)
    kept = [groups[i] for i in split.train]
    inside = kept if told.method == "group" and all(g is not None for g in kept) else None
    folds = splits.folds(labels[split.train], told.folds, seed=seed, groups=inside)
    return Draw(number, split, folds)


def fit_draw(
    recipe: Recipe, source: Source, draw: Draw, out: Path, *, resume: bool, quiet: bool
) -> tuple[Fitted, WeightReport]:
    """Build the network for a draw's training tiles and fit it to them."""
    network, report = build_network(recipe, source, draw)
    rows = draw.split.train
    fitted = fit_strategy(
        network,
        Tiles(source.pack, rows, source.labels[rows]),
        draw.folds,
        make_plan(recipe, report, draw, resume=resume, quiet=quiet),
        folder=out / "draws" / f"{draw.number:02d}",
        features=feature_source(recipe, source),
    )
    return fitted, report


def build_network(
    recipe: Recipe, source: Source, draw: Draw
) -> tuple[TileClassifier, WeightReport]:
    """A network with its first weights, normalising by the draw's training tiles alone."""
    told, bands = recipe.model, source.pack.bands
    backbone, report = build_backbone(
        told.backbone, bands, source.sensor.wavelengths(bands),
        weights=resolve_weights(told.weights), cut_after=told.cut_after,
        first_conv=told.first_conv, fresh=told.fresh, sha256=told.sha256, seed=recipe.seed,
    )  # fmt: skip
    own = statistics(source.pack, draw.split.train)
    mean, sd = own.mean.tolist(), own.sd.tolist()
    if told.normalise == "weights":
        mean, sd = published_normalisation(source, report)
    normalise = Normalise(mean, sd, own.fill.tolist(), source.sensor.nodata)
    names = list(backbone.stages)
    stages = told.stages or tuple(names[1:] if len(names) > 1 else names)
    spec = FeatureSpec(
        tuple(stages), told.pool, tuple(told.input_px), recipe.probe.views, told.unit_length
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + draw.number)  # the head's first weights
        network = TileClassifier(
            backbone, normalise, spec, len(source.index.classes), dropout=told.dropout
        )
    network.to(memory_format=torch.channels_last)
    return network.to(choose_device()), report


def published_normalisation(
    source: Source, report: WeightReport
) -> tuple[list[float], list[float]]:
    """Mean and sd that came with RGB weights, in 8-bit DN and the pack's band order.

    Raises:
        RecipeError: the tiles are not 8-bit red, green and blue.
    """
    colours = [source.sensor.band(name).name for name in ("red", "green", "blue")]
    if sorted(colours) != sorted(source.pack.bands) or source.pack.images.dtype != np.uint8:
        raise RecipeError(
            "model.normalise: given weights, for tiles that are not 8-bit red, green and blue; "
            "allowed: training"
        )
    mean, sd = report.normalisation or IMAGENET
    place = [colours.index(band) for band in source.pack.bands]
    return [255.0 * mean[i] for i in place], [255.0 * sd[i] for i in place]


def make_plan(
    recipe: Recipe, report: WeightReport, draw: Draw, *, resume: bool, quiet: bool
) -> Plan:
    """The recipe's settings as the strategies take them."""
    train, probe = recipe.train, recipe.probe
    settings = TrainSettings(
        **{name: getattr(train, name) for name in type(train).model_fields},
        seed=recipe.seed + draw.number,
        augmentation=Augmentation(**recipe.augment.model_dump()),
    )
    return Plan(
        strategy=recipe.strategy,
        head=probe.head,
        head_settings=probe.penalties if probe.head == "logistic" else probe.shrinkages,
        freeze_until=recipe.freeze_until,
        hold_batchnorm=report.folded_batchnorm,
        settings=settings,
        quiet=quiet,
        resume=resume,
    )


def feature_source(recipe: Recipe, source: Source) -> Callable[[TileClassifier, Ints], Floats]:
    """Frozen features of all tiles, computed once and then found in the cache."""
    everything = np.arange(len(source.index), dtype=np.int64)

    def features(network: TileClassifier, rows: Ints) -> Floats:
        held = cached_features(
            network, source.pack, everything, cache_folder() / "features",
            precision=recipe.train.precision,
        )  # fmt: skip
        return np.asarray(held[rows])

    return features


def judge(recipe: Recipe, source: Source, draw: Draw, fitted: Fitted) -> Floats:
    """Logits of the tiles judged on, averaged over views."""
    if fitted.features is None:
        return predict_rows(
            fitted.network, source.pack, draw.split.test, precision=recipe.train.precision
        )
    scaled = test_features(recipe, source, draw, fitted)
    weight = fitted.network.head.weight.detach().cpu().numpy()
    return np.asarray(
        scaled.mean(axis=1) @ weight.T + fitted.network.head.bias.detach().cpu().numpy()
    )


def test_features(recipe: Recipe, source: Source, draw: Draw, fitted: Fitted) -> Floats:
    """Standardised features [n, V, D] of the tiles judged on, from the cache."""
    return standardised(
        fitted.network, feature_source(recipe, source)(fitted.network, draw.split.test)
    )


def compare(
    recipe: Recipe, source: Source, draw: Draw, fitted: Fitted, logits: Floats,
    *, tally: Tally, out: Path, quiet: bool,
) -> dict[str, Interval]:  # fmt: skip
    """Judge the baselines on the same tiles, note every method's scores, return intervals."""
    classes, truth = len(source.index.classes), source.labels[draw.split.test]
    others: dict[str, Floats] = {}
    if recipe.evaluate.baselines:
        table = band_statistics(source.pack, np.arange(len(source.index), dtype=np.int64))
        others["band mean and sd, logistic"] = band_statistics_logits(
            table, draw.split.train, source.labels[draw.split.train], draw.split.test,
            folds=draw.folds, classes=classes,
        )  # fmt: skip
    for name, variant in variants(recipe).items():
        made, _ = fit_draw(variant, source, draw, out / "beside" / name.replace(" ", "_"),
                           resume=False, quiet=quiet)  # fmt: skip
        others[name] = judge(variant, source, draw, made)
    tally.add("network", truth, logits, classes)
    if recipe.probe.unlabelled != "none":
        extra = unlabelled_head(recipe, source, draw, fitted)
        tally.add("network, with unlabelled tiles", truth, extra[1], classes)
    for name, held in others.items():
        tally.add(name, truth, held, classes)
    rivals = {
        name: wilson(int((held.argmax(1) == truth).sum()), len(truth))
        for name, held in others.items()
    }
    if recipe.evaluate.baselines:
        rivals["majority class"] = commonest(truth, classes)[1]
    return rivals


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The same recipe from random weights, on red, green and blue alone, and as a probe."""
    quiet_probe = recipe.probe.model_copy(update={"unlabelled": "none"})
    base = recipe.model_copy(update={"probe": quiet_probe})
    found = {}
    pretrained = recipe.model.weights != "none"
    if recipe.evaluate.random_weights and pretrained:
        blank = {"weights": "none", "sha256": None, "fresh": ()}
        trains = {"finetune", "probe_then_finetune", "full"}
        found["random weights"] = base.model_copy(
            update={
                "model": recipe.model.model_copy(update=blank),
                "strategy": "scratch" if recipe.strategy in trains else recipe.strategy,
                "freeze_until": None,
            }
        )
    if recipe.evaluate.rgb_only:
        rgb = recipe.model.model_copy(update={"first_conv": "rgb_only"})
        found["red, green and blue alone"] = base.model_copy(update={"model": rgb})
    if recipe.evaluate.baselines and pretrained and recipe.strategy != "probe":
        found["frozen probe"] = base.model_copy(update={"strategy": "probe", "freeze_until": None})
    return found


def unlabelled_head(
    recipe: Recipe, source: Source, draw: Draw, fitted: Fitted
) -> tuple[Any, Floats]:
    """The head that learns from the undrawn tiles' pixels too, and its logits of them."""
    if fitted.features is None or fitted.chosen is None:
        raise DataError("probe.unlabelled: only a probe learns from unlabelled tiles")
    pixels = test_features(recipe, source, draw, fitted)
    head = with_unlabelled(
        fitted.features, source.labels[draw.split.train], pixels, fitted.chosen,
        softness=recipe.probe.softness, rounds=recipe.probe.rounds,
    )  # fmt: skip
    return head, head.logits(pixels)


def save_models(
    recipe: Recipe, source: Source, draw: Draw, fitted: Fitted,
    *, report: WeightReport, metrics: Mapping[str, Any], out: Path,
) -> None:  # fmt: skip
    """Write model.safetensors, and beside it the one that saw unlabelled tiles, if asked for."""
    notes = {
        "recipe": dump(recipe), "metrics": dict(metrics), "weights": report.provenance(),
        "versions": versions(), "seed": recipe.seed, "training": training_notes(source, draw),
    }  # fmt: skip
    contract = make_contract(recipe, source, fitted)
    companions = make_companions(recipe, source, draw, fitted)
    save(out / "model.safetensors", ModelFile(fitted.network, contract, companions, notes))
    if recipe.probe.unlabelled == "none":
        return
    head, _ = unlabelled_head(recipe, source, draw, fitted)
    install(fitted.network, head, float(fitted.network.temperature))
    extra = make_companions(recipe, source, draw, fitted)
    save(out / "model_unlabelled.safetensors", ModelFile(fitted.network, contract, extra, notes))
    if fitted.chosen is not None:
        install(fitted.network, fitted.chosen.head, fitted.chosen.temperature)


def make_contract(recipe: Recipe, source: Source, fitted: Fitted) -> Contract:
    """What new imagery will be checked against."""
    network, packed = fitted.network, source.pack
    return Contract(
        backbone=recipe.model.backbone,
        cut_after=recipe.model.cut_after,
        frozen_until=network.frozen_until,
        bands=packed.bands,
        wavelengths=source.sensor.wavelengths(packed.bands),
        sensor=source.sensor,
        file_bands=recipe.data.file_bands,
        tile_px=packed.images.shape[-1],
        fit=recipe.data.fit,
        classes=source.index.classes,
        colours=colours_of(recipe, source),
        spec=network.spec,
    )


def make_companions(recipe: Recipe, source: Source, draw: Draw, fitted: Fitted) -> Companions:
    """Example tiles with their logits, a coreset of features, and footprints; of training tiles."""
    rows = draw.split.train
    random = np.random.default_rng([recipe.seed, 1])
    some = np.sort(random.permutation(len(rows))[:32])
    kept = np.sort(random.permutation(len(rows))[:2000])
    packed = source.pack
    held = np.full(len(rows), -1, np.int64)
    for number, (_, out) in enumerate(draw.folds):
        held[out] = number
    raw = trained_features(fitted, source, rows[kept], recipe)
    valid = None if packed.valid is None else np.asarray(packed.valid[rows[some]])
    images = np.asarray(packed.images[rows[some]])
    unknown = (np.nan,) * 4
    return Companions(
        examples=images,
        example_valid=np.ones(images.shape, bool) if valid is None else valid,
        example_logits=predict_rows(
            fitted.network, packed, rows[some], precision="float32"
        ).astype(np.float32),
        features=standardised(fitted.network, raw).mean(axis=1),
        labels=source.labels[rows[kept]],
        folds=held[kept],
        footprints=np.array([packed.footprints[i] or unknown for i in rows], np.float64),
    )  # fmt: skip


def trained_features(fitted: Fitted, source: Source, rows: Ints, recipe: Recipe) -> Floats:
    """Features of a network that training changed, computed anew."""
    from geotl.features import raw_features

    return raw_features(fitted.network, source.pack, rows, precision=recipe.train.precision)


def training_notes(source: Source, draw: Draw) -> dict[str, Any]:
    """Where and when the training tiles were taken, as far as is known."""
    rows = draw.split.train
    crs = [source.pack.crs[i] for i in rows]
    dates = sorted({d for d in (source.pack.acquired[i] for i in rows) if d})
    return {"tiles": len(rows), "crs": crs if any(crs) else [], "dates": dates}


def colours_of(recipe: Recipe, source: Source) -> tuple[str, ...]:
    """A colour for each class: the recipe's, else the palette's."""
    given = recipe.data.colours or {}
    unknown = [name for name in given if name not in source.index.classes]
    if unknown:
        raise RecipeError(
            f"data.colours: given {unknown[0]}; allowed: {', '.join(source.index.classes)}"
        )
    standard = default_colours(len(source.index.classes))
    return tuple(given.get(n, c) for n, c in zip(source.index.classes, standard, strict=True))


def rgb_positions(source: Source) -> tuple[int, int, int]:
    """Bands to show as red, green and blue: those, else the first three (or the only one)."""
    bands = source.pack.bands
    try:
        wanted = source.sensor.canonical(["red", "green", "blue"])
    except BandError:
        wanted = ()
    shown = [bands.index(name) for name in wanted if name in bands]
    if len(shown) < 3:
        shown = [min(i, len(bands) - 1) for i in range(3)]
    return shown[0], shown[1], shown[2]


def versions() -> dict[str, str]:
    """What the run was computed with."""
    names = ("geotl", "torch", "torchvision", "lightning", "kornia", "rasterio", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def run_facts(recipe: Recipe, source: Source, draw: Draw, seconds: float) -> dict[str, str]:
    """What a reader wants to know of a run."""
    split = draw.split
    return {
        "Recipe": recipe.name,
        "Strategy": recipe.strategy,
        "Tiles": f"{len(split.train)} to learn from, {len(split.test)} judged, "
        f"{len(split.set_aside)} set aside",
        "Bands": ", ".join(source.pack.bands),
        "Sensor": source.sensor.title,
        "Seed": str(recipe.seed),
        "Device": describe(choose_device(), recipe.train.precision),
        "Time": f"{seconds:.0f} s in all",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }


def _summary(result: Scores) -> dict[str, float]:
    return {
        "overall": result.overall, "balanced": result.balanced,
        "kappa": result.kappa, "macro_f1": result.macro_f1,
    }  # fmt: skip


__all__: Sequence[str] = ("Evaluation", "run")
