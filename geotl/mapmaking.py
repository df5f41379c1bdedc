"""From a model and a scene to finished map files: the whole story, in order."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geotl import __version__
from geotl.api import Model
from geotl.applicability import Applicability, area_of_applicability
from geotl.device import Precision
from geotl.drawnmaps import MOST_CLASSES, Areas, draw, finish, layers
from geotl.errors import DataError, OutputError
from geotl.files import sha256_of, write_text
from geotl.imagerycheck import check_radiometry, range_of, training_resolution_m
from geotl.interest import Interest, whole
from geotl.mappage import Seen, show
from geotl.mapping import Plan, sweep_scene, to_network
from geotl.maptables import areas_csv, areas_lines
from geotl.progress import ProgressLine
from geotl.sheets import FULL, Sheet, drop
from geotl.sweeping import Mode, Sweep, check_dense, look
from geotl.windowgrid import WindowGrid
from geotl.windows import Imagery, Window

Say = Callable[[str], None]
SAMPLE = 200  # windows looked at both ways
LEAST_AGREEMENT = 0.95
JOB = "GEOTL_JOB"  # the tag that holds a job's mark


@dataclass(frozen=True)
class MapOptions:
    """How a map is made.

    Attributes:
        step_px: pixels between windows; None for half a window.
        posting_px: side of a cell of the map, which divides the step; None for the step.
        mode: every window by itself, all at once, or (auto) at once where it agrees.
        views: flips and quarter turns averaged.
        block_px: side of the blocks read at once.
        min_valid: least share of a window's pixels that are valid.
        precision: number format of the network.
        probabilities: write every class's probability too.
        applicability: write where the model applies too.
        entropy: write how mixed the answer is too.
        force: map whatever the values are like.
        overwrite: replace what stands at the output.
        page: draw the map as a PNG and as a page to look at.
        mark: kept in the tags, by which a finished map is known again.
    """

    step_px: int | None = None
    posting_px: int | None = None
    mode: Literal["auto", "exact", "dense"] = "auto"
    views: Literal[1, 2, 4, 8] = 1
    block_px: int = 1024
    min_valid: float = 0.5
    precision: Precision = "auto"
    probabilities: bool = False
    applicability: bool = False
    entropy: bool = False
    force: bool = False
    overwrite: bool = False
    page: bool = True
    mark: str = ""


@dataclass(frozen=True)
class Mapped:
    """A finished map: its files by name, areas, and what was said of it."""

    files: dict[str, Path]
    areas: Areas
    agreement: float | None
    mode: Mode
    lines: tuple[str, ...]


def map_scene(
    model: Model, model_path: Path, scene: Imagery, out: Path, options: MapOptions,
    *, interest: Interest | None = None, quiet: bool = False, say: Say = print,
) -> Mapped:  # fmt: skip
    """Map a scene with a model into a GeoTIFF and what belongs to it.

    A run that was killed goes on where it was, and gives the same files as if it had not been; the
    date in their tags is that of its first start.

    Args:
        model: loaded.
        model_path: its file.
        scene: in the model's bands, as `scenes.open_scene` gives it.
        out: the class map, ending in .tif; the others stand beside it.
        options: how.
        interest: the part of the scene to map; None for all.
        quiet: no progress.
        say: told every line.

    Raises:
        DataError: a scene that the model cannot map.
        OutputError: an output that exists, or cannot be written.
    """
    check_output(out, scene.path, model_path, options)
    contract, companions = model.file.contract, model.file.companions
    if len(contract.classes) > MOST_CLASSES:
        raise DataError(f"{model_path}: {len(contract.classes)} classes; a map holds at most 254")
    if not options.force:
        known = range_of(companions.examples, companions.example_valid)
        check_radiometry(scene, known, contract.sensor, contract.bands)
    grid = window_grid(scene, contract.tile_px, options)
    looked_at = interest or whole(grid)
    folder = out.with_name(f".{out.name}.sweep")
    plan, agreement = settled_plan(model, scene, grid, options, looked_at, say)
    told = notes(model, model_path, scene, plan, options, looked_at)
    key = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
    note = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "agreement": agreement}
    begun = time.perf_counter()
    with ProgressLine(quiet=quiet) as line:
        sheet = sweep_scene(
            plan, scene, folder, key=key, note=note, progress=line.counter("blocks")
        )
        if not sheet.seen.any():
            drop(folder)
            raise DataError(f"{scene.path}: no window with enough valid pixels, so nothing to map")
        tags = provenance(model, told, sheet.note, plan) | (
            {JOB: options.mark} if options.mark else {}
        )
        wanted = layers(
            contract.classes, probabilities=options.probabilities,
            applicability=options.applicability, entropy=options.entropy,
        )  # fmt: skip
        work = folder / "drawing"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        areas = draw(
            sheet, grid, grid.on(scene.grid), wanted, work, within=looked_at.cells,
            threshold=plan.sweep.area.threshold if plan.sweep.area else np.inf,
            shown=looked_at.shown, progress=line.counter("drawing"),
        )  # fmt: skip
    made = finish(wanted, work, classes=contract.classes, colours=contract.colours, tags=tags)
    if options.page:
        seen = Seen(scene, looked_at.cells, grid, areas, tags, forced=options.force)
        made = show(work / "done", made, seen, model.file, out) | made
    files = put_in_place(made, out)
    files["areas"] = out.with_name(f"{out.stem}_areas.csv")
    write_text(files["areas"], areas_csv(areas, contract.classes))
    drop(folder)
    lines = [
        *areas_lines(areas, contract.classes),
        f"{int(sheet.seen.sum())} windows, {plan.sweep.mode} mode, "
        f"{time.perf_counter() - begun:.0f} s",
        f"map      {out}",
    ]
    for text in lines:
        say(text)
    return Mapped(files, areas, agreement, plan.sweep.mode, tuple(lines))


def window_grid(scene: Imagery, px: int, options: MapOptions) -> WindowGrid:
    """Windows and cells over a scene; the posting must divide the step.

    Raises:
        DataError: a scene too small, or a step or posting that does not go.
    """
    step = options.step_px or max(1, px // 2)
    posting = options.posting_px or step
    try:
        if posting > 0 and step % posting:
            raise DataError(f"posting {posting}: allowed is what divides the step, {step} px")
        return WindowGrid(scene.grid.height, scene.grid.width, px, step, posting)
    except DataError as error:
        raise DataError(f"{scene.path}: {error}") from error


def settled_plan(
    model: Model, scene: Imagery, grid: WindowGrid, options: MapOptions, interest: Interest,
    say: Say,
) -> tuple[Plan, float | None]:  # fmt: skip
    """How windows will be looked at, and how often dense and exact mode agree on a sample.

    Raises:
        DataError: dense mode was asked for and does not go.
    """
    contract, companions = model.file.contract, model.file.companions
    area: Applicability | None = None
    if options.applicability:
        area = area_of_applicability(companions.features, companions.folds)
    sweep = Sweep(model.network, grid.px, options.views, "exact", area, options.precision)
    plan = Plan(
        grid, sweep, contract.sensor, max(options.block_px, grid.px), options.min_valid,
        interest.windows(grid),
    )  # fmt: skip
    if options.mode == "exact":
        return plan, None
    try:
        check_dense(model.network, grid.px, grid.step)
    except DataError as error:
        if options.mode == "dense":
            raise
        say(f"exact mode, as {error}")
        return plan, None
    dense = replace(plan, sweep=replace(sweep, mode="dense"))
    agreement = agreement_of(dense, scene)
    if agreement is None:
        return dense, None
    words = f"dense and exact mode name {100 * agreement:.1f} % of a sample of windows alike"
    if options.mode == "auto" and agreement < LEAST_AGREEMENT:
        say(f"exact mode: {words}, fewer than {100 * LEAST_AGREEMENT:.0f} %")
        return plan, agreement
    say(f"dense mode: {words}")
    return dense, agreement


def agreement_of(plan: Plan, scene: Imagery) -> float | None:
    """Share of windows, in a few blocks spread over the scene, that both modes name alike.

    None where no window counts.
    """
    grid, px = plan.grid, plan.grid.px
    same, seen = 0, 0
    exact = replace(plan.sweep, mode="exact")
    each = max(1, int(np.sqrt(SAMPLE / 9)))
    for rows in _spread(grid.rows, each):
        for cols in _spread(grid.cols, each):
            if not plan.wanted[np.ix_(rows, cols)].any():
                continue
            top, left = int(grid.rows[rows[0]]), int(grid.cols[cols[0]])
            high = int(grid.rows[rows[-1]]) + px - top
            wide = int(grid.cols[cols[-1]]) + px - left
            data, valid = scene.read(Window(top, left, high, wide))
            if valid.mean() < plan.min_valid:
                continue
            image = to_network(plan, data, valid, scene.sensor)
            place = grid.rows[rows] - top, grid.cols[cols] - left
            first, second = (
                look(sweep, image, *place, grid.step).probabilities.argmax(axis=-1)
                for sweep in (exact, plan.sweep)
            )
            same, seen = same + int((first == second).sum()), seen + first.size
    return same / seen if seen else None


def _spread(firsts: np.ndarray, each: int) -> list[np.ndarray]:
    """Runs of `each` regular windows at the beginning, middle and end of an axis."""
    count = max(1, len(firsts) - 1)
    starts = sorted({0, max(0, (count - each) // 2), max(0, count - each)})
    return [np.arange(start, min(start + each, count)) for start in starts]


def notes(
    model: Model, model_path: Path, scene: Imagery, plan: Plan, options: MapOptions,
    interest: Interest,
) -> dict[str, Any]:  # fmt: skip
    """Everything that the pixels of a map depend on."""
    return {
        "geotl": __version__,
        "model": sha256_of(model_path),
        "scene": str(scene.path),
        "state": file_states(scene.path),
        "bands": scene.bands,
        "grid": asdict(scene.grid),
        "sensor": asdict(scene.sensor),
        "windows": [plan.grid.px, plan.grid.step, plan.grid.posting, plan.block_px],
        "look": [plan.sweep.mode, plan.sweep.views, plan.sweep.precision, plan.min_valid],
        "options": asdict(options) | dict.fromkeys(["overwrite", "force", "page", "mark"]),
        "interest": interest.told,
    }


def file_states(path: Path) -> list[tuple[str, int, int]]:
    """Size and time of change of a scene's files."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = [(p.name, p.stat()) for p in files if p.exists()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def provenance(
    model: Model, told: Mapping[str, Any], note: Mapping[str, Any], plan: Plan
) -> dict[str, str]:
    """What a map's tags say of where it came from."""
    contract, file = model.file.contract, model.file
    agreement = note.get("agreement")
    versions = file.notes.get("versions", {})
    return {
        "GEOTL_VERSION": str(told["geotl"]),
        "GEOTL_DATE": str(note["date"]),
        "GEOTL_MODEL_SHA256": str(told["model"]),
        "GEOTL_SCENE": Path(str(told["scene"])).name,
        "GEOTL_MODE": plan.sweep.mode,
        "GEOTL_VIEWS": str(plan.sweep.views),
        "GEOTL_WINDOW_PX": str(plan.grid.px),
        "GEOTL_STEP_PX": str(plan.grid.step),
        "GEOTL_DENSE_AGREEMENT": "not measured" if agreement is None else f"{agreement:.4f}",
        "GEOTL_RECIPE": str(file.notes.get("recipe", "")),
        "GEOTL_TRAINED_WITH": ", ".join(f"{k} {v}" for k, v in versions.items()),
        **{f"CLASS_{value}": name for value, name in enumerate(contract.classes)},
    }


def check_output(out: Path, scene: Path, model: Path, options: MapOptions) -> None:
    """Refuse an output that would overwrite something.

    Raises:
        OutputError: it is one of the inputs, exists, or does not end in .tif.
    """
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{out}: a map's name ends in .tif")
    shown = [out.with_suffix(".png"), out.with_suffix(".html")] if options.page else []
    for path in (out, *shown):
        if path.resolve() in (scene.resolve(), model.resolve()):
            raise OutputError(f"{path}: would overwrite what is read; choose another output")
        if path.exists() and not options.overwrite:
            raise OutputError(f"{path}: is there already; --overwrite replaces it")
    if out.is_dir():
        raise OutputError(f"{out}: a folder; name a file in it, such as {out / 'map.tif'}")


def put_in_place(made: Mapping[str, Path], out: Path) -> dict[str, Path]:
    """Move finished files beside each other, the class map last."""
    files = {}
    for name, path in made.items():
        suffix = path.stem.removeprefix("map")
        ending = out.suffix if path.suffix == ".tif" else path.suffix
        target = out.with_name(f"{out.stem}{suffix}{ending}")
        beside = path.with_name(path.name + ".aux.xml")
        if beside.exists():
            beside.replace(target.with_name(target.name + ".aux.xml"))
        path.replace(target)
        files[name] = target
    return files


def model_resolution_m(model: Model) -> float | None:
    """Size of a pixel in metres of the tiles a model was trained on, if known."""
    training = model.file.notes.get("training", {})
    return training_resolution_m(
        model.file.companions.footprints, training.get("crs", []), model.file.contract.tile_px
    )


__all__ = ["FULL", "MapOptions", "Mapped", "Sheet", "map_scene", "model_resolution_m"]
