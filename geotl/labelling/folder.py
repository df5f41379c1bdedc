"""A project's folder: one process at a time, one scene, and no way out through a link."""

from __future__ import annotations

import contextlib
import html
import json
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geotl._version import __version__
from geotl.errors import DataError, OutputError
from geotl.io.files import given_path, json_text, write_text
from geotl.io.locks import lock_path, output_lock
from geotl.io.raster import Grid
from geotl.labelling.choices import CACHE_GB, Choices
from geotl.labelling.project import CLASSES, HISTORY, LABELS, OUTSIDE
from geotl.labelling.project_recipe import SMOOTH_PX

RECORD, ADDRESS = "project.json", "open.html"
VERSION = 1
_LATER = (
    *("features", "accuracy.jsonl", "recipe.yaml", "run", "map.tif", "map.html", "map.png"),
    *("sample.gpkg", "accuracy", ".finish"),
)
_WRITTEN = (RECORD, ADDRESS, LABELS, CLASSES, HISTORY, OUTSIDE, *_LATER)
_LISTENS = re.compile(r"http://127\.0\.0\.1:\d+/[\w-]+/")
_MACHINE = re.compile(r'name="machine" content="([^"]*)"')


@dataclass(frozen=True)
class ProjectRecord:
    """What project.json says.

    Attributes:
        scene: absolute path of the scene.
        grid: of the scene.
        choices: how the scene is read.
    """

    scene: str
    grid: Grid
    choices: Choices


def read_record(folder: Path) -> ProjectRecord | None:
    """What project.json says, None where there is no project yet.

    Raises:
        DataError: the file is damaged or of a later version.
        OutputError: the folder is a file, holds other things, or has a link where geotl writes.
    """
    folder = given_path(folder)
    _check_folder(folder)
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        version = int(value["version"])
        return _record(value) if version == VERSION else _of_later(path, version)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: damaged ({error}); name a new folder with -o, and give it this one's "
            f"{LABELS} with --labels"
        ) from error


def write_record(folder: Path, record: ProjectRecord) -> None:
    """Write project.json.

    Raises:
        OutputError: the folder cannot be written.
    """
    value = {"version": VERSION, "geotl": __version__, **asdict(record)}
    write_text(folder / RECORD, json_text(value))


def check_scene(folder: Path, known: ProjectRecord, scene: Path, grid: Grid) -> None:
    """Make sure that a project belongs to a scene, which may have moved to another folder.

    Raises:
        DataError: it belongs to another one.
    """
    earlier = Path(known.scene)
    same = earlier == scene or earlier.name == scene.name
    if not same or known.grid != grid:
        how = "" if not same else ", which had another grid"
        raise DataError(
            f"{folder}: the project of another scene ({earlier}{how}); give that one, or name "
            "another folder with -o"
        )


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a project's folder.

    Raises:
        OutputError: another process has the project open; says where it listens.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(output_lock(folder / LABELS))
        except OutputError as error:
            address = _address(folder)
            if address is None or not lock_path(folder / LABELS).exists():
                raise
            raise OutputError(
                f"{folder}: open already; go to {address}, or end that geotl label first"
            ) from error
        yield


@contextlib.contextmanager
def address_shown(folder: Path, address: str) -> Iterator[Path]:
    """Keep the address of a server in a page that leads there, for the owner's eyes alone.

    A browser that is started with this file, not with the address, shows the token to no other
    user in the list of processes.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = folder / ADDRESS
    machine = html.escape(platform.node())
    page = (
        f'<!doctype html><meta name="machine" content="{machine}">'
        f'<meta http-equiv="refresh" content="0; url={address}">\n'
    )
    try:
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(page)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}; free some space") from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _address(folder: Path) -> str | None:
    """Where a server of the project listens, with its machine if that is another one."""
    try:
        page = (folder / ADDRESS).read_text(encoding="utf-8")
    except OSError:
        return None
    address, machine = _LISTENS.search(page), _MACHINE.search(page)
    if address is None or machine is None:
        return None
    there = html.unescape(machine[1])
    return address[0] if there == platform.node() else f"{address[0]} on {there}"


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: a file; name a folder with -o")
    for name in _WRITTEN:
        if (folder / name).is_symlink():
            raise OutputError(
                f"{folder / name}: a link, which could lead out of the project; put the file there"
            )
    others = [one.name for one in folder.iterdir() if not one.name.startswith(".")]
    if others and RECORD not in others:
        raise OutputError(
            f"{folder}: holds other files ({sorted(others)[0]}) and no project; name a new folder "
            "with -o"
        )


def _record(value: dict[str, Any]) -> ProjectRecord:
    grid = value["grid"]
    a, b, c, d, e, f = map(float, grid["transform"])
    place = Grid(str(grid["crs"]), (a, b, c, d, e, f), int(grid["height"]), int(grid["width"]))
    given = value["choices"]
    bands = given["bands"]
    paths = {name: given[name] for name in ("weights", "aoi", "sample", "map")}
    if not all(path is None or isinstance(path, str) for path in paths.values()):
        raise TypeError("a path that is no text")
    choices = Choices(
        str(given["sensor"]),
        None if bands is None else tuple(map(str, bands)),
        mask=str(given["mask"]),
        cache_gb=float(given.get("cache_gb", CACHE_GB)),
        smooth_px=int(given.get("smooth_px", SMOOTH_PX)),
        **paths,
    )
    return ProjectRecord(str(value["scene"]), place, choices)


def _of_later(path: Path, version: int) -> ProjectRecord:
    raise DataError(
        f"{path}: of format {version}, which a later geotl made; pip install --upgrade geotl"
    )
