"""A project in which a reference sample is labelled: its answers, its file, and its end.

The page finds the same three parts as in a project of labels: pictures of the scene, something
that follows the labels (here it writes the sample's file and shows nothing), and an end.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geotl.console import Log
from geotl.errors import DataError
from geotl.io.raster import Grid
from geotl.labelling.import_labels import Imported
from geotl.labelling.label_set import LabelSet
from geotl.labelling.own_commands import AttemptProgress, OwnCommands, Step
from geotl.labelling.parts import Publish
from geotl.labelling.project import Project, Snapshot
from geotl.labelling.reference import ReferenceSample
from geotl.labelling.saver import Saver

SAMPLE = "sample.gpkg"
ACCURACY = "accuracy"  # folder of what `geotl accuracy` writes
STEPS = (Step("testing the map"),)
FILES: Mapping[str, str] = {"areas.png": f"{ACCURACY}/areas.png"}


class SampleProject(Project):
    """Answers to a reference sample; the page can give its points a class, and nothing else."""

    mode = "sample"

    def __init__(self, folder: Path, grid: Grid, log: Log, sample: ReferenceSample) -> None:
        """Read the journal; a new project begins with the classes that the file has already.

        Args:
            folder: of the project, which this process has locked.
            grid: of the scene.
            log: takes lines on what was read.
            sample: its points.

        Raises:
            DataError: the answers are to another sample, or a file is damaged.
            OutputError: the folder cannot be written.
        """
        super().__init__(folder, grid, log)
        self.sample = sample
        sample.check(self.snapshot().labels, folder)
        self.add_classes([(name, None) for name in sample.classes])
        labels = self.snapshot().labels
        given = [] if labels.labels else sample.given_changes(labels)
        if given:
            super().change(given, labels.revision)
        if sample.outside:
            log(f"{sample.path}: {sample.outside} points outside the scene stay as they are")

    def change(self, changes: object, revision: int) -> Snapshot:
        """Give points a class: see `ReferenceSample.as_changes`, and `Project.change`."""
        labels = self.snapshot().labels
        return super().change(self.sample.as_changes(changes, labels), revision)

    def import_file(
        self, path: Path, *, field: str, layer: str | None, revision: int | None = None
    ) -> Imported:
        """Raise: the answers are given in the page, without what a file says.

        Raises:
            DataError: always.
        """
        raise DataError("a reference sample takes no labels of a file; its points are labelled")


class BlindSample:
    """Follows the answers: publishes them, and keeps the sample's file up to date."""

    def __init__(self, sample: ReferenceSample, path: Path, publish: Publish) -> None:
        """Write nothing yet.

        Args:
            sample: its points.
            path: where the file goes.
            publish: takes events `sample`.
        """
        self._sample, self.path, self._publish = sample, path.absolute(), publish
        self._labels = LabelSet()
        self._saver = Saver(self._save, self._problem)

    def start(self) -> None:
        """Nothing goes on in the background but what follows an answer."""

    def changed(self, labels: LabelSet) -> None:
        """Take newer answers; returns at once."""
        self._labels = labels
        self._publish("sample", points=self._sample.event(labels))
        self._saver.wake()

    def tile(self, layer: str, each: int, x: int, y: int) -> bytes | None:
        """None: who labels a reference must not see a map."""
        return None

    def at(self, col: float, row: float) -> Mapping[str, Any]:
        """Nothing: as there is no map."""
        return {"bands": {}, "probabilities": {}, "applicability": None}

    def flush(self) -> None:
        """Write the file now.

        Raises:
            OutputError: it cannot be written.
        """
        self._saver.flush()

    def close(self) -> None:
        """Write what is due, and end."""
        self._saver.close()

    def _save(self) -> None:
        self._sample.write(self._labels, self.path)

    def _problem(self, line: str) -> None:
        self._publish("problem", message=line)


class SampleFinisher:
    """Tests a map with the answers, by `geotl accuracy`; without a map, says how."""

    def __init__(self, sample: BlindSample, map_path: Path | None) -> None:
        """Do nothing yet.

        Args:
            sample: whose file is used.
            map_path: class map that the sample was drawn from, None where it is not known.
        """
        self._sample, self._map = sample, map_path

    def __call__(
        self, folder: Path, publish: Callable[..., None], commands: OwnCommands
    ) -> Sequence[str]:
        """Write accuracy.json, tables and a figure of areas into a project's folder.

        Args:
            folder: of the project.
            publish: takes events `finish` with a line of what is done now.
            commands: runs what is run; closing it ends the attempt.

        Returns:
            Names of files to show, as in `FILES`; none without a map.

        Raises:
            DataError: the command failed; its own line.
            OutputError: the sample's file cannot be written.
            StoppedError: it was ended.
        """
        progress = AttemptProgress(publish, STEPS)
        self._sample.flush()
        if self._map is None:
            progress.result(shlex.join(["geotl", "accuracy", "MAP.tif", str(self._sample.path)]))
            return []
        inputs = [str(self._map.absolute()), str(self._sample.path)]
        command = ["accuracy", *inputs, "-o", ACCURACY, "--overwrite"]
        commands.run(folder, command, progress.line)
        progress.result(
            headline(json.loads((folder / ACCURACY / "accuracy.json").read_text("utf-8")))
        )
        return [name for name, place in FILES.items() if (folder / place).exists()]


def headline(record: Mapping[str, Any]) -> str:
    """The overall accuracy of accuracy.json in a line.

    >>> headline({"used": 90, "overall": {"value": 0.8, "low": 0.71, "high": 0.89}})
    'overall accuracy 80.0 % (95 % interval 71.0 to 89.0 %) by 90 points'
    >>> headline({"used": 1, "overall": {"value": None, "low": None, "high": None}})
    'overall accuracy cannot be estimated from 1 points'
    """
    value, low, high = (record["overall"][key] for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return f"overall accuracy cannot be estimated from {record['used']} points"
    shown = [f"{100 * one:.1f}" for one in (value, low, high)]
    interval = f"95 % interval {shown[1]} to {shown[2]} %"
    return f"overall accuracy {shown[0]} % ({interval}) by {record['used']} points"
