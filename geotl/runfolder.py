"""A run's folder: what a new run may be written into, and what a resumed one finds there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geotl.errors import OutputError
from geotl.files import write_text

RECIPE, METRICS = "recipe.yaml", "metrics.json"


def holds_run(folder: Path, *, resume: bool) -> bool:
    """Whether a folder holds a run to go on with; refuses one that may not be written into.

    A folder with nothing but a recipe was refused before it began, and may be had again.

    Raises:
        OutputError: it is a file, or holds other files, or another run and `resume` is not set.
    """
    if folder.is_file():
        raise OutputError(f"{folder}: is a file; choose a folder with --out")
    inside = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if RECIPE not in inside and inside:
        raise OutputError(f"{folder}: holds files that are no run; choose another with --out")
    begun = bool(inside - {RECIPE})
    if begun and not resume:
        raise OutputError(
            f"{folder}: holds another run; go on with it by --resume, or choose another "
            "folder with --out"
        )
    return begun


def open_run(folder: Path, recipe: str, *, resume: bool) -> bool:
    """Make a folder ready for a run with this resolved recipe; tell whether it is finished.

    Raises:
        OutputError: see `holds_run`; or a resumed run's recipe differs.
    """
    held = folder / RECIPE
    if not holds_run(folder, resume=resume):
        write_text(held, recipe)
        return False
    if held.read_text(encoding="utf-8") != recipe:
        raise OutputError(
            f"{folder}: holds a run of another recipe ({held}); repeat its settings to "
            "resume it, or choose another folder with --out"
        )
    return (folder / METRICS).exists()


def read_metrics(folder: Path) -> dict[str, Any]:
    """The metrics of a finished run."""
    told: dict[str, Any] = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return told
