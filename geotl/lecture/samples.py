"""Sample tiles and small trainings for the lecture's demonstrations, on the toolkit's own parts."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from geotl.arrays import Float64s, Int64s
from geotl.data.manifest import index_tiles
from geotl.data.read_tile import TileReading
from geotl.data.spatial_splits import draw_from
from geotl.data.splits import by_units, numbered
from geotl.data.tile_array import fingerprint, pack, statistics
from geotl.experiments.draws import Draw
from geotl.experiments.recipe import resolve_sample
from geotl.experiments.samples import TileSamples
from geotl.imagery.sensors import get_sensor
from geotl.io.files import cache_folder, scratch_folder
from geotl.lecture.figures import MeanChange, Series
from geotl.lecture.recipes import Drawn, Trained
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.models.weight_loading import InitialWeights
from geotl.training.learner import History, Learner, Tiles, fit
from geotl.training.settings import Augmentation, Training, TrainSettings
from geotl.training.strategies import predict_rows

SENSOR = "sentinel2_l2a_n0400"
PLAIN = Augmentation(flips=False, quarter_turns=False)
Changed = Callable[[TileClassifier], None]


@functools.lru_cache(maxsize=4)
def sample(region: str, bands: tuple[str, ...], tiles: str | None = None) -> TileSamples:
    """The tiles of a region in these bands, packed in the cache folder.

    Args:
        region: source or target.
        bands: names.
        tiles: folder with these two; None for the sample tiles.
    """
    sensor = get_sensor(SENSOR)
    index = index_tiles(
        Path(tiles) / region
        if tiles
        else resolve_sample("region", f"sample:{region}", folders=True),
        cache=cache_folder() / "datasets",
        sensor=sensor,
        table="tiles.csv",
        class_depth=1,
        log=lambda _: None,
    )
    names = sensor.canonical(bands)
    folder = cache_folder() / "packs" / fingerprint(index, sensor, TileReading(names))[:32]
    return TileSamples(index, sensor, pack(index, sensor, TileReading(names), folder=folder))


def sample_of(numbers: Drawn) -> TileSamples:
    """The tiles that these numbers ask for."""
    return sample(numbers.region, numbers.bands, numbers.tiles_from)


def draw(numbers: Drawn, number: int, *, shots: int | None = None) -> Draw:
    """One split: some training tiles per class, at most `judged` test tiles of other sites.

    One that is smaller is part of the larger of the same number.
    """
    source, seed = sample_of(numbers), numbers.seed + number
    labels, contents = source.labels, source.index.contents
    sites = numbered([tile.group for tile in source.index.tiles])
    by_site = by_units(sites, labels, 0.3, seed=seed, content=contents)
    split = draw_from(by_site, labels, shots or numbers.shots, seed=seed, content=contents)
    test = np.random.default_rng(seed).permutation(split.test)[: numbers.judged]
    return Draw(number, replace(split, test=np.sort(test)), [])


def tiles_of(source: TileSamples, rows: Int64s) -> Tiles:
    """Rows of the sample with their labels."""
    return Tiles(source.pack, rows, source.labels[rows])


def network(
    source: TileSamples,
    rows: Int64s,
    numbers: Trained,
    seed: int,
    *,
    dropout: float = 0.0,
    weights: str = "none",
    stages: Sequence[str] = (),
) -> TileClassifier:
    """A network that normalises by these training rows, its first weights from the seed.

    Args:
        source: the tiles.
        rows: the training tiles.
        numbers: the backbone and its input size.
        seed: of what is random.
        dropout: before the head.
        weights: file of the backbone's weights.
        stages: pooled into features; () for the last.
    """
    bands = source.pack.bands
    backbone, _ = build_backbone(
        numbers.backbone,
        bands,
        source.sensor.wavelengths(bands),
        initial=InitialWeights(weights),
        cut_after=numbers.cut_after,
        seed=seed,
    )
    stats = statistics(source.pack, rows)
    normalise = Normalise(
        stats.mean.tolist(), stats.sd.tolist(), stats.fill.tolist(), source.sensor.nodata
    )
    size = (numbers.input_px,) if numbers.input_px else ()
    spec = FeatureSpec(tuple(stages) or backbone.stage_names[-1:], "mean", size, views=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TileClassifier(backbone, normalise, spec, len(source.index.classes), dropout=dropout)


def plain_training(numbers: Trained, seed: int) -> Training:
    """Plain training: no decay, nothing varied, one rate for all stages, no early stop."""
    settings = TrainSettings(
        epochs=numbers.epochs,
        batch_size=numbers.batch_size,
        lr=numbers.lr,
        lr_decay=1.0,
        weight_decay=0.0,
        patience=0,
        precision="float32",
        schedule="cosine",
    )
    return Training(settings, PLAIN, seed)


@dataclass(frozen=True)
class TrainedNetwork:
    """A training: its last and its kept network, its epochs, and accuracies in evaluation mode.

    `kept` has the weights of the epoch whose held-out loss was least, `last` those of the last.
    """

    last: TileClassifier
    kept: TileClassifier
    history: History
    train: float
    test: float

    @property
    def gap(self) -> float:
        """Training minus test accuracy."""
        return self.train - self.test


def learn(
    start: TileClassifier,
    source: TileSamples,
    rows: Draw,
    training: Training,
    *,
    watch: bool = False,
) -> TrainedNetwork:
    """Train a copy of a network on a draw.

    Args:
        start: with its first weights, and frozen what is; not changed.
        source: the tiles.
        rows: training and test rows of them.
        training: how.
        watch: test after every epoch; the epoch of least test loss is then `kept`.
    """
    trained = copy.deepcopy(start)
    train, test = (tiles_of(source, part) for part in (rows.split.train, rows.split.test))
    with scratch_folder(cache_folder() / "lecture" / "training") as folder:
        learner = Learner(trained, train, test if watch else None, training)
        history = fit(learner, folder=folder, quiet=True)
        state = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    last = copy.deepcopy(trained)
    last.load_state_dict(
        {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
    )
    return TrainedNetwork(last, trained, history, accuracy(last, train), accuracy(last, test))


def accuracy(model: TileClassifier, tiles: Tiles) -> float:
    """Share of tiles classified correctly, in evaluation mode."""
    logits = predict_rows(model, tiles.pack, tiles.rows, precision="float32")
    return float(np.mean(logits.argmax(axis=1) == tiles.labels))


def curve(history: History, name: str) -> Float64s:
    """A column of a history, epoch by epoch."""
    return np.array([row[name] for row in history.epochs])


def waited(fit: TrainedNetwork, column: str, goal: float, epochs: int) -> int:
    """Epochs until a column of the history reached a goal; one more than all if it never did."""
    reached = np.flatnonzero(curve(fit.history, column) >= goal)
    return int(reached[0]) + 1 if len(reached) else epochs + 1


def band(name: str, arm: Sequence[TrainedNetwork], column: str) -> Series:
    """Mean of a history's column over seeds by epoch, with its sd."""
    columns = np.stack([curve(one.history, column) for one in arm])
    sd = columns.std(axis=0, ddof=1) if len(columns) > 1 else None
    return Series(name, curve(arm[0].history, "epoch") + 1, columns.mean(axis=0), sd)


def compared(arms: Sequence[Sequence[TrainedNetwork]], name: str) -> MeanChange:
    """A figure of trainings without and with, such as train, test or gap."""
    off, on = ([getattr(one, name) for one in arm] for arm in arms)
    return MeanChange.of(off, on)
