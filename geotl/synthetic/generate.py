"""`geotl generate`: synthetic tiles generated, written and tested, and their contact sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from geotl.arrays import UInt8s
from geotl.console import Log
from geotl.data.manifest import write_synthetic
from geotl.errors import DataError, OutputError
from geotl.evaluation.learning_curve import Gain, gain
from geotl.evaluation.metrics import Interval
from geotl.experiments.build import open_experiment
from geotl.experiments.draws import Draw
from geotl.experiments.experiment import Experiment
from geotl.experiments.recipe import Recipe, written_text
from geotl.experiments.run_folder import RECIPE
from geotl.experiments.samples import TileSamples
from geotl.io.files import jsonable, scratch_folder, whole_folder, write_text
from geotl.io.locks import locked
from geotl.reporting.figures import FAINT, INK, ORANGE, canvas, encoded, shortened, write_png
from geotl.reporting.rendering import quicklook, stretch_limits
from geotl.studies.diagnosis import sampled
from geotl.synthetic.gan import GanSettings
from geotl.synthetic.trial import Likeness, SyntheticTiles, Tried, in_pixels, make_tiles, try_out

JSON_NAME, SHEET_NAME = "generation.json", "sheet.png"
SHOWN = 5  # tiles of each kind and class on the contact sheet
LIKE = 64  # training tiles that set the stretch from black to white
CELL, GAP, NAME, HEAD, FOOT = 0.82, 0.05, 1.5, 0.62, 0.34  # inches


def synthetic_sheet(
    rows: Mapping[str, tuple[Sequence[UInt8s], Sequence[UInt8s]]],
    copies: Mapping[str, Sequence[bool]],
    title: str,
    note: str,
) -> bytes:
    """Draw a row for each class: its real tiles [h, w, 3] on the left, synthetic on the right.

    Args:
        rows: pictures of real and of synthetic tiles, by class.
        copies: synthetic tiles that are flagged and framed, by class.
        title: above all.
        note: below all.
    """
    left = max((len(real) for real, _ in rows.values()), default=1)
    right = max((len(synthetic) for _, synthetic in rows.values()), default=1)
    width = NAME + (left + right) * (CELL + GAP) + 4 * GAP
    height = HEAD + len(rows) * (CELL + GAP) + FOOT
    figure = canvas(width, height)
    figure.set_layout_engine("none")  # every tile's place is worked out here
    second = NAME + left * (CELL + GAP) + 3 * GAP
    for line, (name, (real, synthetic)) in enumerate(rows.items()):
        low = height - HEAD - (line + 1) * (CELL + GAP)
        figure.text(
            0.06 / width,
            (low + CELL / 2) / height,
            shortened(name),
            va="center",
            fontsize=8,
            color=INK,
        )
        marks = [*[False] * len(real), *copies.get(name, [False] * len(synthetic))]
        starts = [NAME + i * (CELL + GAP) for i in range(len(real))]
        starts += [second + i * (CELL + GAP) for i in range(len(synthetic))]
        for start, tile, mark in zip(starts, [*real, *synthetic], marks, strict=True):
            place = (start / width, low / height, CELL / width, CELL / height)
            axes = figure.add_axes(place)
            axes.imshow(np.asarray(tile), interpolation="nearest")
            axes.set_axis_off()
            if mark:
                frame = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False)
                frame.set(edgecolor=ORANGE, linewidth=3, clip_on=False)
                axes.add_patch(frame)
    top = (height - HEAD + 0.06) / height
    figure.text(NAME / width, top, "real, trained on", fontsize=8.5, color=FAINT)
    figure.text(second / width, top, "synthetic", fontsize=8.5, color=FAINT)
    figure.text(
        0.06 / width, 1 - 0.1 / height, title, va="top", fontsize=11, color=INK, fontweight="bold"
    )
    figure.text(0.06 / width, 0.08 / height, note, va="bottom", fontsize=7.5, color=FAINT)
    return encoded(figure)


@dataclass(frozen=True)
class Generation:
    """Result of a generation.

    Attributes:
        recipe: resolved recipe.
        samples: the real tiles.
        settings: settings of the generator.
        made: synthetic tiles of the first draw.
        pixels, features: comparison with the real tiles.
        named: share of them that the network fitted without them names as they are meant.
        accuracy: accuracy of every draw, without and with them.
        gained: the paired difference.
    """

    recipe: Recipe
    samples: TileSamples
    settings: GanSettings
    synthetic: SyntheticTiles
    pixels: Likeness
    features: Likeness
    named: float
    accuracy: tuple[tuple[float, float], ...]
    gained: Gain


@dataclass(frozen=True)
class Amounts:
    """Numbers of tiles, steps, repeats and test tiles.

    Attributes:
        per_class: tiles made of each class.
        steps: steps of the generator's training.
        draws: draws to compare on, each with a generator of its own; None for the recipe's.
        test_tiles: maximum number of test tiles.
    """

    per_class: int = 20
    steps: int = 1000
    draws: int | None = None
    test_tiles: int = 1000

    def __post_init__(self) -> None:
        """Make sure that there are tiles to generate and test tiles.

        Raises:
            DataError: a number below 1.
        """
        for name in ("per_class", "steps", "test_tiles"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise DataError(f"--{option}: given {getattr(self, name)}; allowed: at least 1")


@locked
def generate(
    recipe: Recipe,
    out: Path,
    amounts: Amounts = Amounts(),
    *,
    quiet: bool = False,
    log: Log = print,
) -> Generation:
    """Train a generator on a recipe's training tiles, write what it makes, and try it out.

    Args:
        recipe: recipe with data, repeats, network and strategy.
        out: a new or empty folder: tiles in class folders, tiles.csv, sources.txt,
            sheet.png, generation.json, recipe.yaml. It is written completely or not at all.
        amounts: tiles made, steps, draws compared, test tiles.
        quiet: no progress.
        log: called with every line.

    Raises:
        GeoTLError: input, weights or output that cannot be used.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise OutputError(f"{out}: is not an empty folder; choose another with -o")
    experiment = _opened(recipe, out, log, quiet=quiet)
    recipe, samples = experiment.recipe, experiment.samples
    count = _draws(recipe, amounts.draws)
    settings = GanSettings(steps=amounts.steps)
    trials: list[tuple[Draw, SyntheticTiles, Tried]] = []
    for number in range(count):
        draw = sampled(experiment.draw(number), amounts.test_tiles, recipe.seed)
        with experiment.progress() as line:
            progress = line.counter(f"training the generator, draw {number + 1}/{count}")
            synthetic = make_tiles(
                samples,
                draw,
                settings,
                per_class=amounts.per_class,
                seed=recipe.seed + number,
                progress=progress,
            )
        with scratch_folder(out) as folder:
            tried = try_out(replace(experiment, folder=folder), draw, synthetic)
        trials.append((draw, synthetic, tried))
    done = _concluded(experiment, settings, trials)
    with whole_folder(out) as part:
        _write(part, done)
    for text in lines(done):
        log(text)
    log(f"tiles    {out / 'tiles.csv'}\nsheet    {out / SHEET_NAME}")
    return done


def _opened(recipe: Recipe, out: Path, log: Log, *, quiet: bool) -> Experiment:
    """The recipe resolved and its real tiles read, without features."""
    if recipe.data.synthetic is not None:
        raise DataError("data.synthetic: given to geotl generate, which learns from real tiles")
    experiment = open_experiment(recipe, out, log=log, quiet=quiet)
    probe = experiment.recipe.probe.model_copy(update={"unlabelled": "none", "pool": None})
    return experiment.of(experiment.recipe.model_copy(update={"probe": probe}))


def _draws(recipe: Recipe, given: int | None) -> int:
    """Number of repeats that are compared.

    Raises:
        DataError: fewer than one, or more than there are folds.
    """
    most = recipe.split.kfold
    count = recipe.split.draws if given is None else given
    if count < 1 or (most and count > most):
        raise DataError(f"--repeats: given {count}; allowed: 1 to {most or 1000}")
    return count


def _concluded(
    experiment: Experiment,
    settings: GanSettings,
    trials: Sequence[tuple[Draw, SyntheticTiles, Tried]],
) -> Generation:
    _, synthetic, tried = trials[0]
    pairs = [(float(one.without.mean()), float(one.with_them.mean())) for *_, one in trials]
    if len(trials) > 1:
        interval, word = gain([a for a, _ in pairs], [b for _, b in pairs])
    else:
        interval, word = gain(tried.without, tried.with_them)
    return Generation(
        recipe=experiment.recipe,
        samples=experiment.samples,
        settings=settings,
        synthetic=synthetic,
        pixels=in_pixels(experiment.samples, synthetic),
        features=tried.features,
        named=float(np.mean(tried.named == synthetic.labels)),
        accuracy=tuple(pairs),
        gained=Gain("synthetic tiles", Interval(*interval), word, len(trials)),
    )


def lines(done: Generation) -> list[str]:
    """The result as lines for the screen."""
    synthetic, classes = done.synthetic, done.samples.classes
    images = done.samples.pack.images
    without, with_them = np.mean(done.accuracy, axis=0)
    each = len(synthetic.labels) // len(classes)
    unit = "fold" if done.recipe.split.kfold else "draw"
    return [
        f"trained  {done.settings.steps} steps from {len(synthetic.rows)} training tiles of "
        f"{len(classes)} classes, {images.shape[-1]}x{images.shape[-1]} px, {images.shape[1]} "
        "bands",
        f"made     {len(synthetic.labels)} tiles, {each} per class, "
        f"{synthetic.images.dtype.name}, each band "
        "within the range seen",
        *(_like_words(name, like) for name, like in _spaces(done).items()),
        f"checked  {done.named:.0%} of them are classified as intended, by the network trained "
        "without them",
        f"accuracy {without:.3f} without them, {with_them:.3f} with them as training tiles, on the "
        "same test tiles",
        f"gain     {done.gained.words(unit)}",
    ]


def _spaces(done: Generation) -> dict[str, Likeness]:
    return {"features": done.features, "pixels": done.pixels}


def _like_words(name: str, like: Likeness) -> str:
    """Distance, copies and diversity in one space."""
    novelty = like.novelty
    ratio = _ratio(like)
    varied = "unknown" if np.isnan(ratio) else f"{ratio:.0%} of that of real tiles"
    return (
        f"{name:<8} nearest real tile {np.median(novelty.nearest):.2f} sd away (median), two real "
        f"tiles at least {novelty.closest_real:.2f}: {int(novelty.copies.sum())} copies; diversity "
        f"within a class {varied}"
    )


def _ratio(like: Likeness) -> float:
    """Mean over the classes of how varied synthetic tiles are, real ones counting 1."""
    ratios = np.array(like.synthetic) / np.array(like.real)
    return float(np.nanmean(ratios)) if np.isfinite(ratios).any() else float("nan")


def report(done: Generation) -> dict[str, Any]:
    """The result as plain values for JSON; unknown values are null."""
    classes, synthetic = done.samples.classes, done.synthetic
    names = _file_names(done)
    spaces = {
        name: {
            "unit": "standard deviations, root mean square",
            "closest_real_pair": like.novelty.closest_real,
            "nearest_real": {
                "least": float(like.novelty.nearest.min()),
                "median": float(np.median(like.novelty.nearest)),
            },
            "copies": [names[i] for i in np.flatnonzero(like.novelty.copies)],
            "diversity": {
                k: {"real": a, "synthetic": b}
                for k, a, b in zip(classes, like.real, like.synthetic, strict=True)
            },
            "diversity_ratio": _ratio(like),
        }
        for name, like in _spaces(done).items()
    }
    return {
        "generator": vars(done.settings) | {"seed": done.recipe.seed},
        "training_tiles": len(synthetic.rows),
        "tiles": len(synthetic.labels),
        "classes": list(classes),
        **spaces,
        "named_as_meant": done.named,
        "accuracy": [{"without": a, "with": b} for a, b in done.accuracy],
        "gain": done.gained.difference._asdict()
        | {"word": done.gained.word, "paired_over": done.gained.draws},
    }


def _file_names(done: Generation) -> list[str]:
    """Tiles as they are called in the folder, in order."""
    labels = done.synthetic.labels
    place = [int((labels[:i] == label).sum()) for i, label in enumerate(labels)]
    classes = done.samples.classes
    return [f"{classes[k]}/synthetic_{n:04d}.tif" for k, n in zip(labels, place, strict=True)]


def _write(folder: Path, done: Generation) -> None:
    write_synthetic(
        folder,
        done.synthetic.images,
        done.synthetic.labels,
        classes=done.samples.classes,
        bands=done.samples.pack.bands,
        sources=done.synthetic.sources,
    )
    write_text(folder / RECIPE, written_text(done.recipe))
    write_text(folder / JSON_NAME, json.dumps(jsonable(report(done)), indent=1) + "\n")
    write_png(folder / SHEET_NAME, sheet(done))


def sheet(done: Generation) -> bytes:
    """Real and synthetic tiles, with the same stretch."""
    synthetic, pack, rgb = done.synthetic, done.samples.pack, done.samples.rgb
    some = np.sort(np.random.default_rng(done.recipe.seed).permutation(synthetic.rows)[:LIKE])
    images = np.asarray(pack.images[some])
    seen = None if pack.valid is None else np.asarray(pack.valid[some])
    limits = stretch_limits(images, seen, rgb)
    flagged = done.features.novelty.copies | done.pixels.novelty.copies
    rows, copies = {}, {}
    for label, name in enumerate(done.samples.classes):
        real = synthetic.rows[done.samples.labels[synthetic.rows] == label][:SHOWN]
        mine = np.flatnonzero(synthetic.labels == label)[:SHOWN]
        rows[name] = (
            [
                quicklook(
                    pack.images[row], None if pack.valid is None else pack.valid[row], rgb, limits
                )
                for row in real
            ],
            [quicklook(synthetic.images[row], None, rgb, limits) for row in mine],
        )
        copies[name] = flagged[mine].tolist()
    note = (
        f"{done.settings.steps} steps, seed {done.recipe.seed}; all tiles with the same stretch; "
        "framed: "
        f"nearer to a real tile than two real tiles are ({int(flagged.sum())} of {len(flagged)})"
    )
    return synthetic_sheet(rows, copies, f"{done.recipe.name}: real and synthetic tiles", note)
