"""Sample tiles and small trainings for the lecture's demonstrations, on the toolkit's own parts."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geotl.arrays import Float64s, Int64s
from geotl.data.manifest import index_tiles
from geotl.data.read_tile import TileReading
from geotl.data.spatial_splits import draw_from
from geotl.data.splits import by_units, numbered
from geotl.data.tile_array import batch, fingerprint, pack, statistics
from geotl.experiments.draws import Draw
from geotl.experiments.recipe import resolve_sample
from geotl.experiments.samples import TileSamples
from geotl.imagery.sensors import get_sensor
from geotl.io.files import cache_folder
from geotl.lecture.figures import Label, MeanChange, Series
from geotl.lecture.recipes import Drawn, Trained
from geotl.models.classifier import FeatureSpec, Normalise, TileClassifier
from geotl.models.registry import build_backbone
from geotl.models.weight_loading import InitialWeights
from geotl.training.learner import Learner, Tiles
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
    """One split: some training tiles per class, at most `test_tiles` test tiles of other sites.

    One that is smaller is part of the larger of the same number.
    """
    source, seed = sample_of(numbers), numbers.seed + number
    labels, contents = source.labels, source.index.contents
    sites = numbered([tile.group for tile in source.index.tiles])
    by_site = by_units(sites, labels, 0.3, seed=seed, content=contents)
    split = draw_from(by_site, labels, shots or numbers.shots, seed=seed, content=contents)
    test = np.random.default_rng(seed).permutation(split.test)[: numbers.test_tiles]
    return Draw(number, replace(split, test=np.sort(test)), [])


def tiles_of(source: TileSamples, rows: Int64s) -> Tiles:
    """Rows of the sample with their labels."""
    return Tiles(source.pack, rows, source.labels[rows])


def two_parts(source: TileSamples, rows: Int64s, seed: int) -> tuple[Int64s, Int64s]:
    """Rows in two halves, to choose with and to test on; no site has tiles in both."""
    sites = numbered([source.index.tiles[row].group for row in rows.tolist()])
    contents = [source.index.contents[row] for row in rows.tolist()]
    split = by_units(sites, source.labels[rows], 0.5, seed=seed, content=contents)
    return rows[split.train], rows[split.test]


def mislabelled(source: TileSamples, rows: Int64s, share: float, seed: int) -> TileSamples:
    """The same tiles, a share of these rows with a wrong label, as an old map gives them.

    Args:
        source: the tiles.
        rows: those of which some get another class, at random.
        share: of these rows [fraction].
        seed: of which ones, and of their classes.
    """
    if share == 0:
        return source
    tiles, labels = list(source.index.tiles), source.labels
    wrong = wrong_labels(labels[rows], share, len(source.index.classes), seed)
    for row, label in zip(rows.tolist(), wrong.tolist(), strict=True):
        tiles[row] = replace(tiles[row], label=label)
    return replace(source, index=replace(source.index, tiles=tuple(tiles)))


def wrong_labels(labels: Int64s, share: float, classes: int, seed: int) -> Int64s:
    """Labels [n] of which a share is wrong, each of the other classes as likely.

    >>> given = np.zeros(10, np.int64)
    >>> int((wrong_labels(given, 0.3, 4, seed=0) != given).sum())
    3
    """
    random = np.random.default_rng([seed, 3])
    chosen = random.permutation(len(labels))[: round(share * len(labels))]
    given = labels.copy()
    given[chosen] = (given[chosen] + random.integers(1, classes, len(chosen))) % classes
    return given


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
    """A training: its network after the last epoch, its epochs, and accuracies in evaluation mode.

    `epochs` has a line for each epoch, with the keys of `learner.History`.
    """

    last: TileClassifier
    epochs: Sequence[Mapping[str, float]]
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
    """Train a copy of a network on a draw, every epoch of it.

    Args:
        start: with its first weights, and frozen what is; not changed.
        source: the tiles.
        rows: training and test rows of them.
        training: how.
        watch: test after every epoch.
    """
    train, test = (tiles_of(source, part) for part in (rows.split.train, rows.split.test))
    model, epochs = _epochs(start, train, test if watch else None, training)
    return TrainedNetwork(model, epochs, accuracy(model, train), accuracy(model, test))


def trained(start: TileClassifier, train: Tiles, training: Training) -> TileClassifier:
    """Train a copy of a network: that of `learn`, without accuracies."""
    return _epochs(start, train, None, training)[0]


def _epochs(
    start: TileClassifier, train: Tiles, test: Tiles | None, training: Training
) -> tuple[TileClassifier, list[dict[str, float]]]:
    """A trained copy in evaluation mode, and its epochs; without checkpoints and a log.

    These trainings last a second: Lightning's loop and its files would double it.
    """
    model = copy.deepcopy(start)
    learner = Learner(model, train, None, training)
    learner.setup("fit")
    plan = learner.configure_optimizers()
    optimizer, schedule = plan["optimizer"], plan["lr_scheduler"]["scheduler"]
    lines = []
    for epoch in range(training.settings.epochs):
        sums = np.zeros(3)  # loss, hits, tiles
        for number in range(learner.batches):
            cost, loss, hits = learner.batch_loss(epoch, number)
            optimizer.zero_grad()
            cost.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            sums += (loss.item() * len(hits), int(hits.sum()), len(hits))
        lines.append(_line(epoch, sums, model, test))
        learner.train()
    return model.eval(), lines


def _line(
    epoch: int, sums: Float64s, model: TileClassifier, test: Tiles | None
) -> dict[str, float]:
    """What is kept of an epoch: means over its batches and, with test tiles, their accuracy."""
    loss, hits, count = sums.tolist()
    line = {"epoch": float(epoch), "train_loss": loss / count, "train_accuracy": hits / count}
    return line if test is None else line | {"val_accuracy": accuracy(model, test)}


def accuracy(model: TileClassifier, tiles: Tiles) -> float:
    """Share of tiles classified correctly, in evaluation mode."""
    logits = predict_rows(model, tiles.pack, tiles.rows, precision="float32")
    return float(np.mean(logits.argmax(axis=1) == tiles.labels))


def curve(epochs: Sequence[Mapping[str, float]], name: str) -> Float64s:
    """A column of a training's epochs."""
    return np.array([row[name] for row in epochs])


def waited(fit: TrainedNetwork, column: str, goal: float, epochs: int) -> int:
    """Epochs until a column reached a goal; one more than all if it never did."""
    reached = np.flatnonzero(curve(fit.epochs, column) >= goal)
    return int(reached[0]) + 1 if len(reached) else epochs + 1


def band(name: Label, arm: Sequence[TrainedNetwork], column: str) -> Series:
    """Mean of a column over seeds by epoch, with its sd."""
    columns = np.stack([curve(one.epochs, column) for one in arm])
    sd = columns.std(axis=0, ddof=1) if len(columns) > 1 else None
    return Series(name, curve(arm[0].epochs, "epoch") + 1, columns.mean(axis=0), sd)


def compared(arms: Sequence[Sequence[TrainedNetwork]], name: str) -> MeanChange:
    """A figure of trainings without and with, such as train, test or gap."""
    off, on = ([getattr(one, name) for one in arm] for arm in arms)
    return MeanChange.of(off, on)


def standard_tiles(numbers: Drawn) -> Tensor:
    """One training tile of each class [N, C, S, S], standardised."""
    source, rows = sample_of(numbers), draw(numbers, 0).split.train
    stats = statistics(source.pack, rows)
    image = batch(source.pack, rows[:: numbers.shots], fill=stats.fill)["image"]
    plane = (1, -1, 1, 1)
    mean, sd = (torch.from_numpy(x).float().view(plane) for x in (stats.mean, stats.sd))
    return (image - mean) / sd


def pixels(model: TileClassifier, source: TileSamples, rows: Int64s) -> Tensor:
    """Pixels [N, C, S, S] of tiles, invalid ones filled as the network wants."""
    fill = model.normalise.fill.numpy().astype(np.float64)
    image: Tensor = batch(source.pack, rows, fill=fill)["image"]
    return image
