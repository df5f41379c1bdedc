"""Labels of a run that look like another class: as a table, pictures and a file to check them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from geotl.arrays import Float64s, Int64s, UInt8s
from geotl.evaluation.doubtful_labels import Doubt, HeldOutPredictions, doubtful_labels
from geotl.evaluation.evaluate import softmax
from geotl.experiments.compare import FittedDraw
from geotl.experiments.pixel_samples import PixelSamples
from geotl.experiments.recipe import Recipe
from geotl.experiments.results import Answers
from geotl.experiments.samples import TileSamples, shown_bands, stacked_scenes
from geotl.imagery.windows import Window
from geotl.io.files import write_text
from geotl.io.tables import TableWriter
from geotl.io.vector import positions, write_features
from geotl.language import joined, msg, nmsg
from geotl.reporting import figures
from geotl.reporting.html import Picture, Table
from geotl.reporting.rendering import quicklook, stretch_limits

DOUBTFUL = "doubtful_labels"  # name of the file and of the key in metrics.json
MAX_LISTED, MAX_SHOWN = 24, 12  # in the report
REACH_PX = 32  # of the area shown around a pixel
SIDE_PX = 2 * REACH_PX + 1
NO_DATE = "1980-01-01T00:00:00Z"  # of the file, so that equal runs write equal bytes
RING = (255, 170, 0)
_WORDS = msg(
    "They are in the order of doubt: the log-ratio of both probabilities, from a "
    "model that was not fitted to the label. In trials with a tenth of wrong labels"
    " most wrong ones stood among the first fifth of all labels "
    "(docs/BENCHMARKS.md); many of those further down are right and only hard to "
    "classify. Look at the first ones, correct the class of the wrong labels in "
    "your file of labels, and run again."
)


@dataclass(frozen=True)
class LabelDoubts:
    """Labels of a run that look like another class, the most doubtful first.

    Attributes:
        found: these labels.
        names: label or tile of each.
        classes: names of the classes.
        labels: how many labels were checked.
        points: where each lies [n,2], nan where that is not known.
        crs: reference system of the points, None where none is known.
    """

    found: tuple[Doubt, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: int
    points: Float64s
    crs: str | None

    def __len__(self) -> int:
        """Number of doubtful labels."""
        return len(self.found)

    @property
    def file(self) -> str:
        """Name of the file that lists them all: with their places, if these are known."""
        return f"{DOUBTFUL}.gpkg" if self.crs is not None else f"{DOUBTFUL}.csv"

    def line(self) -> list[str]:
        """How many there are, in a printed line; nothing for none."""
        if not self.found:
            return []
        count = nmsg("{n} label", "{n} labels", self.labels)
        return [
            nmsg(
                "{n} of {labels} looks like another class, the most doubtful first in {file}",
                "{n} of {labels} look like another class, the most doubtful first in {file}",
                len(self),
                labels=count,
                file=self.file,
            )
        ]

    def words(self) -> tuple[str, ...]:
        """What the report says where no label is doubtful; nothing else."""
        if self.found:
            return ()
        return (
            nmsg(
                "None of {n} label looks like another class: to a model that was not fitted to it, "
                "the class of every label is the most probable.",
                "None of {n} labels looks like another class: to a model that was not fitted to "
                "it, "
                "the class of every label is the most probable.",
                self.labels,
            ),
        )

    def table(self) -> Table:
        """The most doubtful ones, as the report lists them."""
        rows = tuple(
            (
                name,
                self.classes[one.given],
                one.probability_given,
                self.classes[one.likely],
                one.probability_likely,
            )
            for name, one in zip(self.names[:MAX_LISTED], self.found, strict=False)
        )
        note = [_WORDS, msg("All are in {file}.", file=self.file)]
        if len(self) > len(rows):
            note.append(msg("The first {shown} of {count}.", shown=len(rows), count=len(self)))
        return Table(
            (
                msg("Label"),
                msg("Class"),
                msg("Its probability"),
                msg("Looks like"),
                msg("Probability of that"),
            ),
            rows,
            note=joined(note, " "),
        )

    def picture(self, render: Callable[[Sequence[int]], list[UInt8s]]) -> Picture:
        """The most doubtful ones as pictures; `render` draws rows as uint8 [h,w,3]."""
        shown = self.found[:MAX_SHOWN]
        png = figures.mistakes_figure(
            render([one.row for one in shown]),
            [f"{rank}. {self.classes[one.given]}" for rank, one in enumerate(shown, start=1)],
            [self.classes[one.likely] for one in shown],
            [one.probability_likely for one in shown],
            in_order=True,
        )
        return Picture(
            png,
            msg("Labels that look like another class"),
            msg(
                "The first rows of the table, by their rank: the class of the label, the class "
                "it looks like, and with what probability."
            ),
        )

    def write(self, folder: Path) -> None:
        """Write all of them: points of a GeoPackage, or a table where no label has a position.

        Raises:
            OutputError: the disk is full or the folder cannot be written.
        """
        columns: dict[str, Sequence[object]] = {
            "rank": list(range(1, len(self) + 1)),
            "label": list(self.names),
            "class": [self.classes[one.given] for one in self.found],
            "p_class": [one.probability_given for one in self.found],
            "looks_like": [self.classes[one.likely] for one in self.found],
            "p_looks_like": [one.probability_likely for one in self.found],
        }
        if self.crs is not None:
            located = np.asarray(np.isfinite(self.points).all(axis=1))
            places = [
                shapely.Point(*xy) if there else None
                for xy, there in zip(self.points.tolist(), located.tolist(), strict=True)
            ]
            write_features(folder / self.file, places, columns, self.crs, date=NO_DATE)
            return
        stream = io.StringIO()
        writer = TableWriter(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        write_text(folder / self.file, stream.getvalue())


def doubts_of_tiles(samples: TileSamples, fit: FittedDraw, answers: Answers) -> LabelDoubts:
    """Doubtful labels of tiles.

    Args:
        samples: the tiles.
        fit: the model of the run, with the predictions of its folds, or of single tiles left out.
        answers: predictions of test tiles, which count where the model has none.
    """
    out_of_fit = held_out_of(fit, samples.labels)
    parts = [held_out(answers)] if out_of_fit is None else [out_of_fit, held_out(answers)]
    predictions = _known(parts, len(samples.real))
    labels = labels_at(samples, predictions)
    doubts = doubtful_labels(predictions, labels)
    named = dict(zip(predictions.rows.tolist(), labels, strict=True))
    points, crs = _middles(samples, [one.row for one in doubts])
    return LabelDoubts(
        tuple(doubts),
        tuple(named[one.row] for one in doubts),
        samples.classes,
        len(set(labels)),
        points,
        crs,
    )


def doubts_of_pixels(samples: PixelSamples, answers: Answers) -> LabelDoubts:
    """Doubtful labels of pixels, by the predictions of the folds."""
    groups = [samples.groups[row] for row in answers.rows]
    doubts = doubtful_labels(held_out(answers), groups)
    rows = np.array([one.row for one in doubts], np.int64)
    names = tuple(samples.groups[row] for row in rows)
    crs = str(samples.imagery[0].grid.crs)
    places: Float64s = samples.places[rows]
    return LabelDoubts(tuple(doubts), names, samples.classes, len(set(groups)), places, crs)


def held_out(answers: Answers) -> HeldOutPredictions:
    """Predictions of test rows."""
    return HeldOutPredictions(answers.rows, answers.probabilities, answers.truth)


def held_out_of(fit: FittedDraw, labels: Int64s) -> HeldOutPredictions | None:
    """Predictions of training tiles by fits without these tiles; None without any."""
    held_out = fit.fitted.held_out
    if held_out is None:
        return None
    rows = fit.draw.split.train[held_out.rows]
    probabilities = softmax(held_out.logits, float(fit.fitted.network.temperature))
    return HeldOutPredictions(rows, np.asarray(probabilities), labels[rows])


def labels_at(samples: TileSamples, predictions: HeldOutPredictions) -> list[str]:
    """The label of each row: of a chip the point or polygon it was cut at, else the tile."""
    chips = samples.placement.chips if samples.placement else None
    return [chips[row].label_id if chips else samples.names[row] for row in predictions.rows]


def _known(parts: Sequence[HeldOutPredictions], real: int) -> HeldOutPredictions:
    """Predictions of real tiles with a label, the first of each tile."""
    joined = HeldOutPredictions(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.given for part in parts]),
    )
    first = np.unique(joined.rows, return_index=True)[1]
    return joined.part(first[(joined.rows[first] < real) & (joined.given[first] >= 0)])


def _middles(samples: TileSamples, rows: Sequence[int]) -> tuple[Float64s, str | None]:
    """Middles [n,2] of tiles, in the reference system of the first one that is known."""
    boxes, systems = samples.pack.footprints, samples.pack.crs
    located = [i for i, row in enumerate(rows) if boxes[row] is not None and systems[row]]
    points = np.full((len(rows), 2), np.nan)
    if not located:
        return points, None
    target = str(systems[rows[located[0]]])
    for place in located:
        left, bottom, right, top = boxes[rows[place]] or (np.nan,) * 4
        middle = np.array([[(left + right) / 2, (bottom + top) / 2]])
        points[place] = positions(middle, str(systems[rows[place]]), target)[0]
    return points, target


def scene_look(recipe: Recipe, samples: PixelSamples) -> Callable[[Sequence[int]], list[UInt8s]]:
    """A function that draws the area around labelled pixels, with a ring about the pixel."""

    def look(rows: Sequence[int]) -> list[UInt8s]:
        scenes = stacked_scenes(recipe, samples.sensor)
        rgb = shown_bands(samples.sensor, scenes[0].bands)
        places = [samples.placement.pixels[row].place for row in rows]
        windows = [
            scenes[one.scene].read(Window(one.row - REACH_PX, one.col - REACH_PX, SIDE_PX, SIDE_PX))
            for one in places
        ]
        for scene in scenes:
            scene.close()
        values, valid = (np.stack(part) for part in zip(*windows, strict=True))
        limits = stretch_limits(values, valid, rgb)
        return [ringed(quicklook(*one, rgb, limits)) for one in windows]

    return look


def ringed(picture: UInt8s) -> UInt8s:
    """A picture [h,w,3] with a square ring about its middle pixel, which stays visible."""
    drawn, row, col = picture.copy(), picture.shape[0] // 2, picture.shape[1] // 2
    square = np.ones((9, 9), bool)
    square[1:-1, 1:-1] = False
    drawn[row - 4 : row + 5, col - 4 : col + 5][square] = RING
    return drawn
