"""The end of a project: recipe, model, report and map, by the very commands a user would run.

They run in a folder of their own inside the project, which looks like the project. What is
finished there takes its place in the project at the end, all of it or nothing. A kill leaves that
folder: the next attempt goes on in it, unless labels or settings have changed since.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from geotl._version import __version__
from geotl.arrays import Float64s
from geotl.data.labels import name_of, read_labels
from geotl.errors import DataError, OutputError
from geotl.imagery.windows import Imagery
from geotl.io.files import (
    json_text,
    put_away,
    sha256_of,
    sync_tree,
    take_place,
    unwritten,
    write_text,
)
from geotl.labelling.own_commands import AttemptProgress, OwnCommands, Step
from geotl.labelling.project_recipe import ProjectInputs, label_places, recipe_text

LABELS, CLASSES, RECIPE, RUN, MAP = "labels.gpkg", "classes.json", "recipe.yaml", "run", "map.tif"
MODEL = f"{RUN}/model.safetensors"
FILES: Mapping[str, str] = {  # to show in the page, and where they are in the project
    "report.html": f"{RUN}/report.html",
    "map.html": "map.html",
    "map.png": "map.png",
}
_LAYER = "labels"
_STAGE, _SOURCE, _COMPLETE, _DONE = ".finish", "source.json", "complete", "metrics.json"
_FINISHED = f"{RUN}/finished_of.json"  # what finished results depend on
STEPS = (
    Step(
        "training and testing the model",
        {
            **{"placing labels": (0.0, 0.02), "reading pixels": (0.02, 0.1)},
            **{"fitting folds": (0.1, 0.8), "fitting the random split": (0.85, 0.97)},
        },
    ),
    Step("mapping the scene", {"blocks": (0.0, 0.9), "drawing": (0.9, 1.0)}),
)
_CHANGED = "; the labels have changed meanwhile: this is of those at the beginning"
_NOT_MOVED = frozenset({LABELS, CLASSES, _SOURCE, _COMPLETE})


class Finisher:
    """Finishes a project."""

    def __init__(self, inputs: ProjectInputs, scene: Imagery) -> None:
        """Do nothing yet.

        Args:
            inputs: of the project.
            scene: that the labels lie on.
        """
        self._inputs, self._scene = inputs, scene

    def __call__(
        self, folder: Path, publish: Callable[..., None], commands: OwnCommands
    ) -> Sequence[str]:
        """Write recipe.yaml, run/, map.tif and its page from the labels.gpkg of a project.

        Args:
            folder: of the project; labels.gpkg and classes.json are up to date.
            publish: takes events `finish` with a line of what is done now, at last the result.
            commands: runs what is run; closing it ends the attempt.

        Returns:
            Names of files to show, as in `FILES`.

        Raises:
            DataError: no labels, or a command failed; its own line.
            OutputError: the disk is full, or another process works in the folder.
            StoppedError: it was ended; what is done so far is gone on with next time.
        """
        progress = AttemptProgress(publish, STEPS)
        settle(folder)
        if _is_finished(folder, self._inputs):
            progress.result(f"nothing has changed since: {_result(folder)}")
            return _files(folder)
        stage = folder / _STAGE
        state = self._open(folder, stage)
        if not (stage / RUN / _DONE).exists():
            commands.run(stage, run_command(resume=(stage / RUN).exists()), progress.line)
        progress.begin(1)
        if not (stage / MAP).exists():
            commands.run(stage, map_command(self._inputs), progress.line)
        changed = _state(folder, self._inputs) != state
        _complete(stage, state)
        settle(folder)
        progress.result(_result(folder) + (_CHANGED if changed else ""))
        return _files(folder)

    def _open(self, folder: Path, stage: Path) -> str:
        """The folder of the work, as it was left if it is of the same labels and settings.

        Returns:
            What its results depend on.
        """
        try:
            if not (folder / LABELS).exists():
                raise DataError(f"{folder / LABELS}: there are no labels yet; place some first")
            if _text(stage / _SOURCE) == _state(folder, self._inputs):
                return _text(stage / _SOURCE)
            if stage.exists():
                put_away(stage)
            stage.mkdir()
            for name in (LABELS, CLASSES):
                (stage / name).write_bytes((folder / name).read_bytes())
            colours, places = labels_of(stage, self._scene)
            shown = shlex.join(["geotl", *map_command(self._inputs)])
            write_text(stage / RECIPE, recipe_text(self._inputs, colours, places, LABELS, shown))
            state = _state(stage, self._inputs)
            write_text(stage / _SOURCE, state)
        except OSError as error:
            raise unwritten(stage, error) from error
        return state


def run_command(*, resume: bool = False) -> list[str]:
    """Arguments of geotl that train and test the project's model."""
    return ["run", RECIPE, "-o", RUN, *(["--resume"] if resume else [])]


def map_command(inputs: ProjectInputs) -> list[str]:
    """Arguments of geotl that map the scene with it."""
    return ["map", MODEL, str(inputs.scene.absolute()), "-o", MAP, *inputs.map_options]


def labels_of(folder: Path, scene: Imagery) -> tuple[dict[str, str], Float64s]:
    """Colour of each class, and a place in metres of each label [N,2], of labels that have pixels.

    Raises:
        DataError: no labels, or files that cannot be read.
    """
    from geotl.data.pixel_labels import PixelRules, place_pixels  # torch, which takes seconds

    labels = read_labels(folder / LABELS, layer=_LAYER, field="class", crs_to=scene.grid.crs)
    try:
        classes = json.loads((folder / CLASSES).read_text(encoding="utf-8"))
        colours = {name_of(one["name"]): str(one["colour"]) for one in classes}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder / CLASSES}: damaged ({error}); change a class in the page, which writes it"
        ) from error
    placed = place_pixels([scene], labels, PixelRules())
    names = sorted({*placed.labels.values()} & {*filter(None, colours)})
    return {name: colours[name] for name in names}, label_places(placed, scene.grid)


def settle(folder: Path) -> None:
    """Move what is finished and complete to its place; goes on where a kill interrupted that.

    Raises:
        OutputError: something cannot be moved.
    """
    stage = folder / _STAGE
    if not (stage / _COMPLETE).exists():
        return
    try:
        for part in sorted(stage.iterdir(), key=lambda path: path.name == MAP):
            if part.name not in _NOT_MOVED and not part.name.startswith("."):
                _replace(part, folder / part.name)
        put_away(stage)
    except OSError as error:
        raise OutputError(
            f"{folder}: could not put the finished files in place ({error.strerror}); they are in "
            f"{stage}, and finishing again moves them"
        ) from error


def _complete(stage: Path, state: str) -> None:
    write_text(stage / _FINISHED, state)
    try:
        sync_tree(stage)
    except OSError as error:
        raise unwritten(stage, error) from error
    write_text(stage / _COMPLETE, "")


def _replace(part: Path, target: Path) -> None:
    if part.is_dir():
        take_place(part, target)
    else:
        part.replace(target)


def _state(folder: Path, inputs: ProjectInputs) -> str:
    """What the results depend on, as text; results of an equal text are the same."""
    files = {name: sha256_of(folder / name) for name in (LABELS, CLASSES)}
    return json_text({"geotl": __version__, **files, **asdict(inputs)})


def _is_finished(folder: Path, inputs: ProjectInputs) -> bool:
    """Whether a project's results are all there, and of its labels and settings as they are now."""
    needed = (LABELS, CLASSES, RECIPE, MODEL, f"{RUN}/{_DONE}", MAP)
    if not all((folder / name).exists() for name in needed):
        return False
    return _text(folder / _FINISHED) == _state(folder, inputs)


def _files(folder: Path) -> list[str]:
    """Names of the files to show that are there."""
    return [name for name, place in FILES.items() if (folder / place).exists()]


def _result(folder: Path) -> str:
    """What the run of a finished project came to, as `geotl run` prints it."""
    return str(json.loads(_text(folder / RUN / _DONE))["headline"])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
