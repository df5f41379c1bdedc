"""One repeat with and without synthetic tiles, and the novelty and diversity of these."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geotl.arrays import Bools, Float64s, Floats, Int64s, Pixels
from geotl.console import Progress
from geotl.data.splits import Split
from geotl.data.tile_array import Pack, Unread, packed
from geotl.data.tiles import Tile
from geotl.errors import DataError
from geotl.experiments.compare import FittedDraw, fit_draw, head_logits, logits_of_test
from geotl.experiments.draws import Draw, with_synthetic
from geotl.experiments.experiment import Experiment
from geotl.experiments.samples import TileSamples
from geotl.models.classifier import VIEWS, turn_view
from geotl.models.device import choose_device
from geotl.synthetic.gan import (
    GanSettings,
    Space,
    generated_tiles,
    space_of,
    standardised_tiles,
    train_generator,
)
from geotl.training.features import raw_features
from geotl.training.strategies import standardised


@dataclass(frozen=True)
class Novelty:
    """Each synthetic tile's nearest real one, and what counts as a copy.

    Attributes:
        nearest: distance [M] to the nearest real tile in any of its views.
        row: position [M] of that real tile.
        closest_real: smallest distance between two different real tiles in any view; infinite
            where there are no two.
    """

    nearest: Floats
    row: Int64s
    closest_real: float

    @property
    def copies(self) -> Bools:
        """Synthetic tiles nearer to a real tile than any two real tiles are to each other [M]."""
        if not np.isfinite(self.closest_real):
            return np.zeros(len(self.nearest), dtype=bool)
        return np.asarray(self.nearest < self.closest_real)


def novelty(synthetic: Floats, views: Iterable[Floats], contents: Sequence[str]) -> Novelty:
    """Compare synthetic tiles with every view of the real ones.

    Args:
        synthetic: [M, D], standardised.
        views: real tiles [N, D], once for each view; the first is not transformed.
        contents: hash of each real tile [N]; two of equal content are one tile.

    Raises:
        DataError: no views, or shapes that do not fit.

    >>> real = np.array([[0.0, 0.0], [3.0, 4.0]])
    >>> result = novelty(np.array([[0.0, 1.0], [9.0, 9.0]]), [real], ["a", "b"])
    >>> result.nearest.round(2).tolist(), round(result.closest_real, 2), result.copies.tolist()
    ([0.71, 5.52], 3.54, [True, False])
    """
    _, kind = np.unique(np.asarray(contents), return_inverse=True)
    other = kind[:, None] != kind[None]
    nearest, row = np.full(len(synthetic), np.inf), np.zeros(len(synthetic), dtype=np.int64)
    closest, plain = np.inf, None
    for real in views:
        if real.shape != (len(kind), synthetic.shape[1]):
            raise DataError(
                f"real tiles of shape {real.shape} for {len(kind)} contents and synthetic ones of "
                f"{synthetic.shape[1]} values"
            )
        plain = real if plain is None else plain
        apart = distances(synthetic, real)
        best = apart.argmin(axis=1)
        less = apart[np.arange(len(synthetic)), best]
        row, nearest = np.where(less < nearest, best, row), np.minimum(less, nearest)
        closest = min(closest, float(distances(plain, real)[other].min(initial=np.inf)))
    if plain is None:
        raise DataError("no view of the real tiles was given")
    return Novelty(nearest, row, closest)


def distances(a: Floats, b: Floats) -> Float64s:
    """Root mean square differences [M, N] of rows [M, D] and [N, D].

    >>> distances(np.array([[1.0, 1.0]]), np.array([[1.0, 1.0], [4.0, 5.0]])).tolist()
    [[0.0, 3.5355339059327378]]
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    square = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * (x @ y.T)
    return np.asarray(np.sqrt(np.maximum(square, 0) / a.shape[1]))


def diversity(tiles: Floats, labels: Int64s, classes: int) -> list[float]:
    """Mean distance between two tiles of a class, for each class; nan with fewer than two.

    >>> diversity(np.array([[0.0], [2.0], [5.0]]), np.array([0, 0, 1]), 2)
    [2.0, nan]
    """
    ratios = []
    for k in range(classes):
        mine = tiles[labels == k]
        pairs = np.triu_indices(len(mine), 1)
        apart = distances(mine, mine)[pairs]
        ratios.append(float(apart.mean()) if len(apart) else float("nan"))
    return ratios


MAX_TILES = 2000  # training tiles that a generator learns from


@dataclass(frozen=True)
class SyntheticTiles:
    """Synthetic tiles of one draw.

    Attributes:
        images: [M, C, S, S] in the native type.
        labels: class of each [M].
        rows: rows of the generator's training tiles.
        sources: contents of these tiles.
        space: feature space of its training.
    """

    images: NDArray[Any]
    labels: Int64s
    rows: Int64s
    sources: tuple[str, ...]
    space: Space


@dataclass(frozen=True)
class Likeness:
    """Comparison of synthetic with real tiles in one feature space: see `Novelty`.

    `real` and `synthetic` hold the mean distance between two tiles of a class, by class.
    """

    novelty: Novelty
    real: list[float]
    synthetic: list[float]


@dataclass(frozen=True)
class Tried:
    """Test tiles that a network classified correctly, trained without and with synthetic ones.

    `named` are the classes the first network sees in the synthetic tiles.
    """

    without: Bools
    with_them: Bools
    named: Int64s
    features: Likeness


def make_tiles(
    samples: TileSamples,
    draw: Draw,
    settings: GanSettings,
    *,
    per_class: int,
    seed: int,
    progress: Progress,
) -> SyntheticTiles:
    """Train a generator on a draw's training tiles, on no others, and have it make tiles.

    Args:
        samples: the tiles.
        draw: repeat with the training tiles, at most MAX_TILES of them, drawn by seed.
        settings: settings of the generator.
        per_class: tiles made of each class.
        seed: seed of the training and the noise.
        progress: called with steps done and steps in all.
    """
    rows = draw.split.train
    if len(rows) > MAX_TILES:
        rows = np.sort(np.random.default_rng([seed, 17]).permutation(rows)[:MAX_TILES])
    space, labels = space_of(samples.pack, rows), samples.labels[rows]
    tiles = torch.from_numpy(standardised_tiles(samples.pack, rows, space)).to(choose_device())
    classes = len(samples.classes)
    generator = train_generator(
        tiles,
        torch.from_numpy(labels).to(tiles.device),
        classes,
        settings,
        seed=seed,
        progress=progress,
    )
    wanted = np.repeat(np.arange(classes, dtype=np.int64), per_class)
    images = generated_tiles(generator, torch.from_numpy(wanted), seed=seed).numpy()
    contents = samples.contents
    return SyntheticTiles(
        space.in_dn(images), wanted, rows, tuple(contents[row] for row in rows), space
    )


def join_samples(
    samples: TileSamples, draw: Draw, synthetic: SyntheticTiles, folder: Path
) -> tuple[TileSamples, Draw]:
    """A draw's own tiles with the synthetic ones behind them, in a pack of their own.

    The draw handed back is the same without them; `with_synthetic` lets them join.
    """
    rows = np.concatenate([draw.split.train, draw.split.test])
    index, pack = samples.index, samples.pack
    tiles = [index.tiles[row] for row in rows]
    for number, (image, label) in enumerate(
        zip(synthetic.images, synthetic.labels.tolist(), strict=True)
    ):
        content = hashlib.sha256(image.tobytes()).hexdigest()
        tiles.append(
            Tile(
                folder / f"{number}",
                label,
                None,
                None,
                content,
                sources=frozenset(synthetic.sources),
            )
        )
    nothing = [None] * len(synthetic.labels)

    def unread() -> Unread:
        return Unread(
            _pixels(samples.pack, rows, synthetic),
            (len(tiles), *pack.images.shape[1:]),
            pack.images.dtype,
            pack.bands,
            *(
                [*(values[row] for row in rows), *nothing]
                for values in (pack.footprints, pack.crs, pack.acquired)
            ),
        )

    key = hashlib.sha256(f"{pack.fingerprint}{rows.tolist()}".encode() + synthetic.images.tobytes())
    joined = packed(folder, key.hexdigest(), unread)
    count = len(draw.split.train)
    split = Split(np.arange(count), np.arange(count, len(rows)), np.zeros(0, np.int64))
    joined_samples = replace(
        samples, index=replace(index, tiles=tuple(tiles)), pack=joined, unlabelled=None
    )
    return joined_samples, replace(draw, split=split)


def _pixels(pack: Pack, rows: Int64s, synthetic: SyntheticTiles) -> Generator[Pixels, None, None]:
    everything = np.ones(pack.images.shape[1:], dtype=bool)
    for row in rows:
        yield np.asarray(pack.images[row]), everything if pack.valid is None else pack.valid[row]
    for image in synthetic.images:
        yield image, everything


def try_out(experiment: Experiment, draw: Draw, synthetic: SyntheticTiles) -> Tried:
    """Fit the recipe to a repeat without and with its synthetic tiles; test on the same tiles.

    Args:
        experiment: experiment with the strategy to fit, in a temporary folder.
        draw: training and test tiles.
        synthetic: tiles of a generator trained on this repeat.
    """
    joined, alone = join_samples(experiment.samples, draw, synthetic, experiment.folder / "pack")
    both = with_synthetic(alone, joined)
    truth = joined.labels[alone.split.test]
    accuracies = {}
    for name, one in (("without", alone), ("with", both)):
        inner = experiment.on(joined).inside(name)
        fit = fit_draw(inner, one)
        accuracies[name] = logits_of_test(inner, fit).argmax(axis=1) == truth
        if name == "without":
            positions = np.searchsorted(draw.split.train, synthetic.rows)
            features, named = _seen(inner, replace(fit, draw=both), synthetic, positions)
    return Tried(accuracies["without"], accuracies["with"], named, features)


def _seen(
    experiment: Experiment, fit: FittedDraw, synthetic: SyntheticTiles, positions: Int64s
) -> tuple[Likeness, Int64s]:
    """Comparison of synthetic and real training tiles in a network's features, with its classes.

    Features are averaged over the recipe's views; `held` are the generator's tiles among the rows.
    """
    rows, network, joined = fit.draw.split.train, fit.fitted.network, experiment.samples
    raw = raw_features(network, joined.pack, rows, precision=experiment.recipe.train.precision)
    scaled = standardised(network, raw)
    new = slice(len(rows) - len(synthetic.labels), None)
    flat = scaled.mean(axis=1)
    like = _likeness(
        flat[new], flat[positions], [flat[positions]], synthetic, joined.labels[rows[positions]]
    )
    return like, head_logits(fit.fitted, scaled[new]).argmax(axis=1)


def in_pixels(samples: TileSamples, synthetic: SyntheticTiles) -> Likeness:
    """Comparison of synthetic and real tiles pixel by pixel, the real ones in all eight views."""
    real = standardised_tiles(samples.pack, synthetic.rows, synthetic.space)
    tiles = synthetic.space.standardised(synthetic.images)
    turned = (turn_view(torch.from_numpy(real), view).numpy() for view in range(VIEWS))
    views = (one.reshape(len(one), -1) for one in turned)
    labels = samples.labels[synthetic.rows]
    return _likeness(
        tiles.reshape(len(tiles), -1), real.reshape(len(real), -1), views, synthetic, labels
    )


def _likeness(
    tiles: Floats, plain: Floats, views: Iterable[Floats], synthetic: SyntheticTiles, labels: Int64s
) -> Likeness:
    classes = int(synthetic.labels.max()) + 1
    return Likeness(
        novelty(tiles, views, synthetic.sources),
        diversity(plain, labels, classes),
        diversity(tiles, synthetic.labels, classes),
    )
