"""A map's files put in place: checked before, moved whole, the class map last."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from geotl.errors import OutputError
from geotl.io.files import write_text

_PLACING = "placing.json"
_BESIDE = ".aux.xml"


def check_output(
    targets: Mapping[str, Path], inputs: Iterable[Path], folder: Path, *, overwrite: bool
) -> None:
    """Refuse outputs that would overwrite something.

    What a run that was killed had already put in place, as told in its folder, does not count.

    Args:
        targets: where each file goes, the class map last.
        inputs: files and folders that are read.
        folder: in which the map is made.
        overwrite: replace what is there.

    Raises:
        OutputError: one is an input or a folder, exists, or the map does not end in .tif.
    """
    out = list(targets.values())[-1]
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{out}: a map's name ends in .tif")
    read = {path.resolve() for path in inputs}
    mine = _placed(folder)
    for target in reversed(list(targets.values())):
        if target.is_dir():
            raise OutputError(f"{target}: a folder; name a file in it, such as {target / out.name}")
        if target.resolve() in read:
            raise OutputError(f"{target}: would overwrite what is read; choose another output")
        if target.exists() and not overwrite and target.name not in mine:
            raise OutputError(f"{target}: is there already; --overwrite replaces it")


def put_in_place(made: Mapping[str, Path], targets: Mapping[str, Path], folder: Path) -> None:
    """Move finished files where they belong, in order, after noting it in the map's folder.

    Raises:
        OutputError: a file cannot be moved.
    """
    write_text(folder / _PLACING, json.dumps([path.name for path in targets.values()]))
    for name, target in targets.items():
        beside = made[name].with_name(made[name].name + _BESIDE)
        try:
            if beside.exists():
                beside.replace(target.with_name(target.name + _BESIDE))
            made[name].replace(target)
        except OSError as error:
            raise OutputError(
                f"{target}: could not be put in place ({error.strerror}); what is finished lies in "
                f"{made[name].parent}"
            ) from error


def left_over(out: Path, targets: Mapping[str, Path]) -> Sequence[Path]:
    """Files beside a map that belong to an earlier one of its name."""
    kinds = ("confidence", "probabilities", "applicability", "dissimilarity", "entropy")
    known = [out.with_name(f"{out.stem}_{kind}{out.suffix}") for kind in kinds]
    known.append(out.with_name(f"{out.stem}_polygons.gpkg"))
    known += [out.with_suffix(".png"), out.with_suffix(".html")]
    return [path for path in known if path.exists() and path not in targets.values()]


def _placed(folder: Path) -> list[str]:
    try:
        told = json.loads((folder / _PLACING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(name) for name in told]
