"""A run's folder: whether it may be written into, and whether its run is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geotl.console import complain, silent
from geotl.errors import GeoTLError, OutputError
from geotl.experiments import spellings
from geotl.experiments.recipe import dump, load
from geotl.io import yaml
from geotl.io.files import write_text
from geotl.io.locks import lock_path

RECIPE, METRICS = "recipe.yaml", "metrics.json"


def holds_run(folder: Path, *, resume: bool) -> bool:
    """Whether a folder holds a run to go on with; an error if it must not be written into.

    A folder with nothing but a recipe is of a run that never began, and may be used again.

    Raises:
        OutputError: it is a file, or holds other files, or another run and `resume` is not set.
    """
    if folder.is_file():
        raise OutputError(f"{folder}: is a file; choose a folder with -o")
    inside = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    inside.discard(lock_path(folder).name)  # exists where nothing can be written next to the folder
    if RECIPE not in inside and inside:
        raise OutputError(f"{folder}: holds files that are no run; choose another with -o")
    begun = bool(inside - {RECIPE})
    if begun and not resume:
        raise OutputError(
            f"{folder}: holds another run; choose a new folder with -o, or continue that run with "
            "--resume"
        )
    return begun


def finished_alike(folder: Path, sections: Mapping[str, Any]) -> bool:
    """Whether a folder's run is finished and is, or may be, of these sections of a recipe.

    Some keys are resolved only when tiles are read, so `open_run` decides.
    """
    stored, finished = folder / RECIPE, folder / METRICS
    if not (stored.is_file() and finished.is_file()):
        return False
    stated, faults = yaml.parse(_text(stored))
    if faults or not isinstance(stated, dict):
        return False
    values, *_ = spellings.stored(stated)
    return all(values.get(key) == value for key, value in sections.items())


def open_run(folder: Path, recipe: str, *, resume: bool) -> bool:
    """Make a folder ready for a run with this resolved recipe; return whether it is finished.

    Raises:
        OutputError: see `holds_run`; or a resumed run's recipe differs; or it is finished, and
            was not to be resumed.
    """
    stored, finished = folder / RECIPE, folder / METRICS
    if finished.is_file() and not resume and _same(stored, recipe):
        raise OutputError(
            f"{folder}: this run is already finished; --resume prints its result again, and "
            "another folder with -o repeats it"
        )
    if not holds_run(folder, resume=resume):
        write_text(stored, yaml.write(spellings.written(yaml.parse(recipe)[0])))
        return False
    if not _same(stored, recipe):
        raise OutputError(
            f"{folder}: holds a run of another recipe ({stored}); choose a new folder with -o, or "
            "repeat that recipe's settings to resume it"
        )
    return finished.exists() and _is_readable(finished)


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics of a finished run."""
    metrics: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return metrics


def _is_readable(finished: Path) -> bool:
    """Whether a run's metrics can be read; they go away with a line where they cannot."""
    try:
        if "headline" in read_metrics(finished.parent):
            return True
    except (ValueError, TypeError, RecursionError):
        pass  # reported below
    complain(f"{finished}: is damaged; the run goes on from what else is in its folder")
    finished.unlink()
    return False


def _same(stored: Path, recipe: str) -> bool:
    """Whether a folder's recipe is this one; keys that its version did not have are at defaults."""
    if _text(stored) == recipe:
        return True
    try:
        return dump(load(stored, warn=silent)) == recipe
    except GeoTLError:
        return False


def _text(path: Path) -> str:
    """A recipe; bytes that are no text differ from every recipe."""
    return path.read_text(encoding="utf-8", errors="replace")
