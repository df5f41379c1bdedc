"""`geotl label` from its options to the end of the server: the whole story, in order."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from geotl.console import Log
from geotl.errors import SettingError
from geotl.imagery.scene import Scene
from geotl.io.files import given_path
from geotl.labelling.blind import SAMPLE, BlindSample, SampleFinisher, SampleProject
from geotl.labelling.choices import (
    Choices,
    LabelOptions,
    chosen,
    effects,
    file_order,
    opened,
    sensor_of,
)
from geotl.labelling.finish import Finisher
from geotl.labelling.folder import (
    ProjectRecord,
    address_shown,
    alone_in,
    check_scene,
    read_record,
    write_record,
)
from geotl.labelling.gate import Address, new_token
from geotl.labelling.import_labels import read_classes
from geotl.labelling.parts import FollowingModel, LateModel, Parts, Publish
from geotl.labelling.project import Project
from geotl.labelling.project_recipe import ProjectInputs
from geotl.labelling.reference import read_sample
from geotl.labelling.scene_tiles import SceneTiles
from geotl.labelling.server import app
from geotl.labelling.serving import Interrupts, open_socket, serve
from geotl.labelling.tabs import Events

_CLOSE_S = 5.0  # for the model's threads, whose work can be done again


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
        show: takes lines: the page's address, and at the end where the labels are.

    Raises:
        DataError: the scene or a file cannot be used, or the project is another scene's.
        OutputError: the folder cannot be written, or another process has it open.
        SettingError: the port cannot be had, or options that do not go together.
    """
    folder, path = given_path(folder), given_path(scene_path).resolve()
    known = read_record(folder)
    before = known.choices if known else Choices(options.sensor or sensor_of(path))
    scene, choices = opened(path, chosen(options, before), log)
    if known is not None:
        check_scene(folder, known, path, scene.grid)
        for line in effects(before, choices):
            log(line)
    record = ProjectRecord(str(path), scene.grid, choices)
    opening = Opening(folder, scene, choices, options)
    events = Events()
    with alone_in(folder), open_socket(options.port) as listening:
        with _nothing_left(folder, new=known is None):
            if known is None:
                write_record(folder, record)
            make = open_labels if choices.sample is None else open_sample
            project, parts = make(opening, events.publish, log)
        with contextlib.closing(project):
            write_record(folder, record)
            _serve(project, parts, events, listening, browser=options.browser, show=show)


@dataclass(frozen=True)
class Opening:
    """What a project is opened from.

    Attributes:
        folder: of the project, locked.
        scene: open.
        choices: how the scene is read.
        options: of the command line.
    """

    folder: Path
    scene: Scene
    choices: Choices
    options: LabelOptions


def open_labels(opening: Opening, publish: Publish, log: Log) -> tuple[Project, Parts]:
    """A project of labels that train a model, with what the command line begins it with.

    Raises:
        DataError: a file cannot be used.
        OutputError: the folder cannot be written.
    """
    scene, choices = opening.scene, opening.choices
    project = Project(opening.folder, scene.grid, log)
    with _closed_on_error(project):
        _begin(project, opening.options, log)
        weights, aoi = _path(choices.weights), _path(choices.aoi)
        order = file_order(scene.path, scene.sensor, choices.bands)
        inputs = ProjectInputs(
            scene.path,
            choices.sensor,
            choices.bands,
            choices.mask,
            weights,
            aoi,
            order,
            choices.smooth_px,
        )

    def make() -> FollowingModel:
        # torch and scikit-learn, which take seconds to import
        from geotl.labelling.learner import Learner, LearnerOptions, window_of

        area = None if aoi is None else window_of(aoi, scene)
        own = LearnerOptions(choices.cache_gb, area=area, smooth_px=choices.smooth_px)
        return Learner(scene, opening.folder / "features", publish, weights=weights, options=own)

    fault = threading.Event()
    model, finish = LateModel(make, fault.set), Finisher(inputs, scene)
    return project, Parts(SceneTiles(scene), model, finish, fault=fault)


def open_sample(opening: Opening, publish: Publish, log: Log) -> tuple[Project, Parts]:
    """A project in which a reference sample is labelled without a map.

    Raises:
        SettingError: labels of a file are given too.
        DataError: a file cannot be used, or the project has other labels.
        OutputError: the folder cannot be written.
    """
    options, grid = opening.options, opening.scene.grid
    if options.labels is not None:
        raise SettingError("--labels: a reference sample takes none; leave the option out")
    names = [] if options.classes is None else [name for name, _ in read_classes(options.classes)]
    sample = read_sample(Path(str(opening.choices.sample)), grid, names)
    project = SampleProject(opening.folder, grid, log, sample)
    blind = BlindSample(sample, opening.folder / SAMPLE, publish)
    finish = SampleFinisher(blind, _path(opening.choices.map))
    return project, Parts(SceneTiles(opening.scene), blind, finish)


@contextlib.contextmanager
def _nothing_left(folder: Path, *, new: bool) -> Iterator[None]:
    """Remove what a start wrote that failed, where the project is new."""
    before = {*folder.iterdir()}
    try:
        yield
    except BaseException:
        for made in {*folder.iterdir()} - before if new else ():
            if made.is_dir():
                shutil.rmtree(made)
            else:
                made.unlink()
        raise


@contextlib.contextmanager
def _closed_on_error(project: Project) -> Iterator[None]:
    try:
        yield
    except BaseException:
        project.close()
        raise


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


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
    listening: socket.socket,
    *,
    browser: bool,
    show: Callable[[str], None],
) -> None:
    interrupts = Interrupts(parts.attempts.close)

    def ending() -> None:
        show(f"stopping; labels are saved in {project.path}")
        events.close()

    with interrupts.taken():
        address = Address(listening.getsockname()[1], new_token())
        gate = app(project, parts, address=address, events=events)
        with address_shown(project.folder, address.url) as page:
            parts.model.start()
            show(f"label at {address.url} (Ctrl+C ends it)")
            if browser:
                webbrowser.open(page.resolve().as_uri())
            try:
                serve(gate, listening, parts.fault, ending, interrupts)
            finally:
                parts.attempts.close()
                _close(parts)


def _close(parts: Parts) -> None:
    """End the model, but do not wait long for a step of its work: nothing of it is lost."""
    if parts.fault.is_set():
        parts.model.close()  # raises what went wrong
        return
    closing = threading.Thread(target=parts.model.close, daemon=True)
    closing.start()
    closing.join(_CLOSE_S)
