"""`geotl label` from its options to the end of the server: the whole story, in order."""

from __future__ import annotations

import contextlib
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geotl.console import Log
from geotl.imagery.scene import Scene, open_scene
from geotl.imagery.sensors import get_sensor
from geotl.io.files import given_path
from geotl.labelling.events import Events
from geotl.labelling.finish import Finisher
from geotl.labelling.folder import (
    Choices,
    ProjectRecord,
    address_shown,
    alone_in,
    check_scene,
    read_record,
    write_record,
)
from geotl.labelling.gate import Address, new_token
from geotl.labelling.import_labels import read_classes
from geotl.labelling.learner import Learner, LearnerOptions, window_of
from geotl.labelling.parts import Parts
from geotl.labelling.project import Project
from geotl.labelling.project_recipe import ProjectInputs
from geotl.labelling.scene_tiles import SceneTiles
from geotl.labelling.server import app
from geotl.labelling.serving import open_socket, serve


@dataclass(frozen=True)
class LabelOptions:
    """What the command line says; None where it says nothing.

    Attributes:
        sensor: name of the scene's.
        bands: names of those used.
        mask: cloud mask: auto, none or a path.
        weights: path of a network's weights.
        aoi: path of polygons of the area of interest.
        classes: path of names of classes.
        labels: path of labels to begin with.
        field: of the labels, with the class.
        layer: of the labels' file.
        port: to listen on.
        browser: whether to open one.
    """

    sensor: str | None = None
    bands: tuple[str, ...] | None = None
    mask: str | None = None
    weights: Path | None = None
    aoi: Path | None = None
    classes: Path | None = None
    labels: Path | None = None
    field: str = "class"
    layer: str | None = None
    port: int | None = None
    browser: bool = True


def label(
    scene_path: Path,
    folder: Path,
    options: LabelOptions,
    *,
    log: Log,
    show: Callable[[str], None],
) -> None:
    """Serve a project's page until the process is interrupted.

    Args:
        scene_path: image file or folder of band files.
        folder: of the project, which is made where it is missing.
        options: of the command line; what they leave open is as in the session before.
        log: takes lines on what was taken from files.
        show: takes the page's address.

    Raises:
        DataError: the scene or a file cannot be used, or the project is another scene's.
        OutputError: the folder cannot be written, or another process has it open.
        SettingError: the port cannot be had.
    """
    folder, path = given_path(folder), given_path(scene_path).resolve()
    known = read_record(folder)
    choices = _chosen(options, known.choices if known else Choices())
    mask = None if choices.mask == "none" else choices.mask
    scene = open_scene(path, get_sensor(choices.sensor), choices.bands, mask=mask)
    if known is not None:
        check_scene(folder, known, path, scene.grid)
    with alone_in(folder):
        write_record(folder, ProjectRecord(str(path), scene.grid, choices))
        with open_project(folder, scene, log) as project:
            _begin(project, options, log)
            events = Events()
            parts = make_parts(scene, folder, choices, events)
            _serve(project, parts, events, options, show)


@contextlib.contextmanager
def open_project(folder: Path, scene: Scene, log: Log) -> Iterator[Project]:
    """The project of a locked folder; closed at the end."""
    project = Project(folder, scene.grid, log)
    try:
        yield project
    finally:
        project.close()


def _chosen(options: LabelOptions, known: Choices) -> Choices:
    """The options, and what they leave open as it was in the session before."""
    return Choices(
        options.sensor or known.sensor,
        options.bands or known.bands,
        _absolute(options.weights) or known.weights,
        options.mask or known.mask,
        _absolute(options.aoi) or known.aoi,
    )


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(given_path(path).resolve())


def _begin(project: Project, options: LabelOptions, log: Log) -> None:
    """Add the classes and labels that the command line names, unless they are there already."""
    if options.classes is not None:
        project.add_classes(read_classes(options.classes))
    if options.labels is not None:
        reading = project.import_file(options.labels, field=options.field, layer=options.layer)
        log(f"{options.labels}: {reading.added} labels added")
        for line in reading.rejected:
            log(f"{options.labels}: {line}")


def _serve(
    project: Project,
    parts: Parts,
    events: Events,
    options: LabelOptions,
    show: Callable[[str], None],
) -> None:
    with open_socket(options.port) as listening:
        address = Address(listening.getsockname()[1], new_token())
        gate = app(project, parts.tiles, parts.model, parts.finish, address=address, events=events)
        with address_shown(project.folder, address.url) as page:
            parts.model.start()
            show(address.url)
            if options.browser:
                webbrowser.open(page.resolve().as_uri())
            try:
                serve(gate, listening, ending=events.close)
            finally:
                parts.model.close()


def make_parts(scene: Scene, folder: Path, choices: Choices, events: Events) -> Parts:
    """Pictures, model and end of a session."""
    weights, aoi = (None if one is None else Path(one) for one in (choices.weights, choices.aoi))
    inputs = ProjectInputs(
        scene.path, choices.sensor, choices.bands, choices.mask or "auto", weights, aoi
    )
    area = None if aoi is None else window_of(aoi, scene)
    model = Learner(
        scene,
        folder / "features",
        events.publish,
        weights=weights,
        options=LearnerOptions(area=area),
    )
    return Parts(SceneTiles(scene), model, Finisher(inputs, scene))
