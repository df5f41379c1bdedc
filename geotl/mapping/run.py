"""From a model and a scene to finished map files: all steps, in order.

A finished map can be handed out as an xarray Dataset, where xarray is installed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geotl.arrays import Float64s, Pixels
from geotl.console import Log, ProgressLine
from geotl.errors import DataError, needed_by_model
from geotl.evaluation.prediction_sets import coverage_line, stored_limits
from geotl.imagery.scene import Scene
from geotl.imagery.windows import Imagery
from geotl.imagery.xarray_scene import need_rioxarray, scene_of
from geotl.inference.mapper import Mapper, MapperContract
from geotl.inference.sliding_window import Mode
from geotl.io.files import cache_folder, scratch_folder, write_text
from geotl.io.locks import locked
from geotl.io.raster import read
from geotl.language import nmsg
from geotl.mapping.blocks import SweepPlan, sweep_scene
from geotl.mapping.layers import MOST_CLASSES, Areas, Drawing, ValueSum, draw, finish
from geotl.mapping.map_words import area_name
from geotl.mapping.options import MapOptions, layers
from geotl.mapping.outputs import (
    areas_csv,
    areas_lines,
    check_output,
    left_over,
    put_in_place,
    write_polygons,
)
from geotl.mapping.plan import (
    SweepNote,
    as_in_training,
    exact_plan,
    interest_in,
    open_for,
    planned,
    settled,
)
from geotl.mapping.preview import outside_of, thumb_of
from geotl.mapping.provenance import (
    SweepInputs,
    notes,
    partial_words,
    provenance,
)
from geotl.mapping.sieving import Sieved, mmu_cells, sieve_classes
from geotl.mapping.task import (
    AREAS,
    AS_IT_IS,
    POLYGONS,
    Interest,
    Reading,
    Task,
    of_member,
    outputs,
    whole,
    window_grid,
)
from geotl.mapping.window_store import Sheet, drop, note_of
from geotl.models.input_domain import check_radiometry

if TYPE_CHECKING:
    import xarray as xr


Tallies = Mapping[str, ValueSum]  # of what was written into each layer


@dataclass(frozen=True)
class Mapped:
    """A finished map: its files by name, areas, and log lines."""

    files: dict[str, Path]
    areas: Areas
    agreement: float | None
    mode: Mode
    lines: tuple[str, ...]


@locked
def map_scene(
    model: Mapper,
    scene: Imagery,
    out: Path,
    options: MapOptions,
    *,
    interest: Interest | None = None,
    quiet: bool = False,
    log: Log = print,
) -> Mapped:
    """Map a scene with a model into a GeoTIFF and what belongs to it.

    A run that was killed goes on where it was, and gives the same files as an undisturbed run; the
    date in their tags is that of its first start.

    Args:
        model: loaded from a file, its network in evaluation mode on its device.
        scene: in the model's bands, from `plan.open_for`.
        out: the class map, ending in .tif; the others lie next to it.
        options: how.
        interest: the part of the scene to map; None for all.
        quiet: no progress.
        log: gets every line.

    Raises:
        DataError: a scene that the model cannot map.
        OutputError: an output that exists, or cannot be written.
    """
    begun = time.perf_counter()
    model = of_member(model, options.member)
    folder, targets = out.with_name(f".{out.name}.sweep"), outputs(out, options)
    parts = scene.parts if isinstance(scene, Scene) else ()
    inputs = [scene.path, *parts, *([] if model.path is None else [model.path])]
    check_output(targets, inputs, folder, overwrite=options.overwrite)
    _check_scene(model, scene, force=options.force)
    grid = window_grid(scene, model.contract.tile_px, options)
    task = Task(model, scene, grid, options, interest or whole(grid))
    run = _begun(task, folder, log)
    with ProgressLine(quiet=quiet) as line:
        sheet = _swept(run, line)
        drawn = _drawn(run, sheet, targets, line)
    put_in_place(drawn.files, targets, folder)
    windows, partial = int(sheet.seen.sum()), _partial_lines(sheet, drawn.areas)
    impossible = _impossible_lines(sheet, scene)
    drop(folder)
    lines = [
        *impossible,
        *areas_lines(drawn.areas, model.contract.classes),
        *_outside_lines(drawn.outside, "pixels" if grid.px == 1 else "tiles"),
        *partial,
        *_merged_lines(run, drawn.merged),
        *([coverage_line(model.notes, options.coverage)] if options.sets else []),
        _swept_line(run, windows, time.perf_counter() - begun),
        *(f"{path.name}: left as it was, of an earlier map" for path in left_over(out, targets)),
        f"map      {out}",
    ]
    for text in lines:
        log(text)
    choice = run.note.choice
    return Mapped(targets, drawn.areas, choice.agreement, run.plan.sweep.mode, tuple(lines))


@dataclass(frozen=True)
class _Run:
    """A sweep that begins, or goes on where it was.

    Attributes:
        task: what is mapped with what.
        folder: of the sheet.
        inputs: what the map's pixels depend on.
        note: kept with the sheet since it began.
        plan: of the windows.
        smallest: cells of the smallest patch that stays in the class map.
        set_limits: probability from which each class is in a prediction set [K], None without sets.
    """

    task: Task
    folder: Path
    inputs: SweepInputs
    note: SweepNote
    plan: SweepPlan
    smallest: int
    set_limits: Float64s | None = None


@dataclass(frozen=True)
class _Drawn:
    """A map that is finished in the sheet's folder.

    Attributes:
        files: by name.
        areas: of the classes.
        merged: cells that took the class of a neighbouring patch.
        outside: share of the cells outside the area of applicability; None where unknown.
    """

    files: dict[str, Path]
    areas: Areas
    merged: int
    outside: float | None = None


def _begun(task: Task, folder: Path, log: Log) -> _Run:
    """How the scene will be predicted, or was when the sweep in the folder began."""
    limits = _set_limits(task)
    exact, smallest = exact_plan(task, log), mmu_cells(task)
    inputs = notes(task, exact)
    earlier = note_of(folder, inputs.key)
    note = SweepNote.of(earlier) if earlier else SweepNote(_now(), settled(task, exact))
    plan = planned(exact, note.choice)
    if plan.interest.all():
        plan = replace(plan, thumb=thumb_of(task.scene, task.grid.cells, task.grid.posting))
    if note.choice.told:
        log(note.choice.told)
    return _Run(task, folder, inputs, note, plan, smallest, limits)


def _set_limits(task: Task) -> Float64s | None:
    """Thresholds of the prediction sets that are wanted; None where none are.

    Raises:
        ModelError: the model keeps none.
    """
    if not task.options.sets:
        return None
    model = task.model
    classes, coverage = len(model.contract.classes), task.options.coverage
    return stored_limits(model.notes, classes, coverage, model.path)


def _swept(run: _Run, line: ProgressLine) -> Sheet:
    """Every window of interest predicted, and the predictions stored in the folder.

    Raises:
        DataError: no window that can be predicted.
    """
    scene = run.task.scene
    sheet = sweep_scene(
        run.plan,
        scene,
        run.folder,
        key=run.inputs.key,
        note=run.note.noted(),
        progress=line.counter("blocks"),
    )
    if not sheet.seen.any():
        drop(run.folder)
        lacks = "no window with enough valid pixels"
        if run.plan.grid.px == 1:
            lacks = f"no pixel that is valid in {'any' if run.plan.some_bands else 'every'} band"
        raise DataError(f"{scene.path}: {lacks}, so nothing to map")
    return sheet


def _drawn(run: _Run, sheet: Sheet, targets: Mapping[str, Path], line: ProgressLine) -> _Drawn:
    """Every file of the map, its figure and page too where they are wanted."""
    tags = provenance(run.task, run.inputs, run.note, run.plan, sheet)
    drawn = _made(run, sheet, tags, line)
    files = drawn.files
    outside = outside_of(files["applicability"]) if "applicability" in files else None
    if run.task.options.page:
        from geotl.mapping.page import Seen, show  # matplotlib, when there is something to draw

        page_facts = Seen(run.task, drawn.areas, tags, targets, outside, _picture(sheet))
        files |= show(sheet.folder / "drawing" / "done", files, page_facts)
    return replace(drawn, files=files, outside=outside)


def _swept_line(run: _Run, windows: int, seconds: float) -> str:
    """How many windows were predicted, and in which mode."""
    plan, side = run.plan, run.task.options.smooth_px
    if plan.grid.px == 1:
        how = "one by one" if side is None else f"smoothed in windows of {side} px"
        return f"{windows:,} pixels, {how}, {seconds:.0f} s"
    views = plan.sweep.views
    return (
        f"{windows:,} windows, {plan.sweep.mode} mode, {views} view{'s' if views > 1 else ''}, "
        f"{seconds:.0f} s"
    )


def _partial_lines(sheet: Sheet, areas: Areas) -> list[str]:
    """The area with a class although some bands are missing; nothing where there is none."""
    count = int(sheet.partial.sum())
    if not count:
        return []
    metres = count * float(areas.square_metres.sum()) / max(int(areas.pixels.sum()), 1)
    ground = f", about {area_name(metres)}" if np.isfinite(metres) else ""
    return [f"{partial_words(sheet)}{ground}; the other bands gave their class"]


def _impossible_lines(sheet: Sheet, scene: Imagery) -> list[str]:
    """How many values are none that the sensor measures; nothing where all may be."""
    count = 0 if sheet.impossible is None else int(sheet.impossible.sum())
    if not count:
        return []
    return [
        nmsg(
            "{n} value cannot be of sensor {sensor}: taken as no data",
            "{n} values cannot be of sensor {sensor}: taken as no data",
            count,
            sensor=scene.sensor.name,
        )
    ]


def _picture(sheet: Sheet) -> Pixels | None:
    """The scene as it was gathered while it was read."""
    if sheet.picture is None or sheet.shown is None:
        return None
    return sheet.picture, sheet.shown


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _outside_lines(outside: float | None, samples: str) -> list[str]:
    """The share of the map for which the model's accuracy does not hold; nothing where unknown."""
    if outside is None:
        return []
    consequence = (
        "the accuracy does not hold there" if outside > 0 else "the model applies throughout"
    )
    return [
        f"applicability: {100 * outside:.3g} % is dissimilar to all training {samples}; "
        f"{consequence}"
    ]


def _merged_lines(run: _Run, merged: int) -> list[str]:
    """How many cells the minimum mapping unit changed; nothing where there is none."""
    unit = run.task.options.mmu_ha
    if not unit:
        return []
    small = f"patches below {unit:g} ha ({run.smallest:,} px)"
    return [f"{small}: {merged:,} px took the class of their largest neighbour"]


def _check_scene(model: Mapper, scene: Imagery, *, force: bool) -> None:
    """Make sure that the model can map a scene, before anything is written."""
    contract = model.contract
    if len(contract.classes) > MOST_CLASSES:
        raise DataError(f"{model.path}: {len(contract.classes)} classes; a map holds at most 254")
    if not force:
        check_radiometry(scene, model.seen, contract.sensor, contract.bands)


def _layers(run: _Run, sheet: Sheet, work: Path, line: ProgressLine) -> tuple[Sieved, Tallies]:
    """The map's layers drawn into a folder, small patches merged where that is wanted."""
    task, sweep = run.task, run.plan.sweep
    drawing = Drawing(
        sheet,
        task.grid,
        task.grid.on(task.scene.grid),
        task.interest.cells,
        sweep.area.threshold if sweep.area else np.inf,
        task.interest.shown,
        run.plan.smoothing,
        run.set_limits,
    )
    areas, tallies = draw(drawing, task.layers, work, line.counter("drawing"))
    if run.smallest == 1:
        return Sieved(areas, tallies["classes"], 0), tallies
    sieved = sieve_classes(drawing, work / "classes.tif", run.smallest)
    return sieved, {**tallies, "classes": sieved.tally}


def _made(run: _Run, sheet: Sheet, tags: Mapping[str, Any], line: ProgressLine) -> _Drawn:
    """The map's rasters and tables, finished in the sheet's folder."""
    task, work = run.task, sheet.folder / "drawing"
    contract = task.model.contract
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    sieved, tallies = _layers(run, sheet, work, line)
    finished = finish(
        task.layers,
        work,
        tallies,
        classes=contract.classes,
        colours=contract.colours,
        tags=tags,
    )
    finished[AREAS] = work / "done" / "map_areas.csv"
    write_text(finished[AREAS], areas_csv(sieved.areas, contract.classes))
    if task.options.polygons:
        finished[POLYGONS] = work / "done" / "map_polygons.gpkg"
        write_polygons(
            finished["classes"],
            finished[POLYGONS],
            contract.classes,
            min_area_m2=task.options.min_area_m2,
            date=run.note.date,
        )
    return _Drawn(finished, sieved.areas, sieved.changed)


def mapped_dataset(
    model: Mapper,
    scene: str | Path | xr.DataArray,
    out: str | Path | None,
    options: MapOptions | None = None,
    *,
    reading: Reading = AS_IT_IS,
    quiet: bool = True,
) -> xr.Dataset:
    """Map a scene and hand out the map.

    Args:
        model: loaded from a file, its network in evaluation mode on its device.
        scene: a file or folder, or a DataArray with axes bands, y and x.
        out: the class map to write; None to keep no files.
        options: how.
        reading: how the scene is read, and which part of it is mapped.
        quiet: no progress, and nothing printed.

    Raises:
        DataError: a scene that the model cannot map, or no xarray.
        OutputError: an output that exists, or cannot be written.
    """
    need_rioxarray("a map as a data set")
    options = options or MapOptions()
    opened = _opened(model, scene, reading)
    interest = interest_in(opened, model.contract.tile_px, options, reading)
    with ExitStack() as stack:
        if out is None:
            folder = stack.enter_context(scratch_folder(cache_folder() / "map"))
            out, options = folder / "map.tif", replace(options, page=False)
        mapped = map_scene(
            model,
            opened,
            Path(out),
            options,
            interest=interest,
            quiet=quiet,
            log=_silent if quiet else print,
        )
        return read_map(mapped.files, model.contract)


def read_map(files: Mapping[str, Path], contract: MapperContract) -> xr.Dataset:
    """A map's rasters, by name, as variables of a data set over y and x.

    `classes` follows the CF conventions (`flag_values`, `flag_meanings` with blanks as
    underscores) and has the names in `class_names` and the colours in `class_colors`;
    probabilities have an axis `class`. `rio.nodata`, the reference system and the transform are
    those of the files.
    """
    import xarray as xr

    variables = {
        n: _variable(n, p, contract) for n, p in files.items() if p.suffix.startswith(".tif")
    }
    first = ("classes", *(name for name in variables if name != "classes"))
    return xr.Dataset({name: variables[name] for name in first})


def _opened(model: Mapper, scene: str | Path | xr.DataArray, reading: Reading) -> Scene:
    if isinstance(scene, str | Path):
        return open_for(model, scene, reading)
    contract = model.contract
    sensor = reading.sensor_or(contract.sensor)
    file_bands = None if reading.sensor else contract.file_bands
    with needed_by_model("a scene", sensor.name):
        opened = scene_of(scene, sensor, contract.bands, file_bands=file_bands)
    return as_in_training(model, opened, reading)


def _variable(name: str, path: Path, contract: MapperContract) -> Any:
    """A raster as a DataArray."""
    import xarray as xr

    raster = read(path)
    a, _, c, _, e, f = raster.grid.transform
    y, x = (
        f + e * (np.arange(raster.grid.height) + 0.5),
        c + a * (np.arange(raster.grid.width) + 0.5),
    )
    several = layers(contract.classes, None)[name].per_class
    array = xr.DataArray(
        raster.data if several else raster.data[0],
        dims=("class", "y", "x") if several else ("y", "x"),
        coords={"y": y, "x": x} | ({"class": list(contract.classes)} if several else {}),
        name=name,
        attrs=_attributes(name, contract),
    )
    placed = array.rio.write_crs(raster.grid.crs).rio.write_transform()
    return placed.rio.write_nodata(layers(contract.classes, None)[name].nodata)


def _attributes(name: str, contract: MapperContract) -> dict[str, Any]:
    if name != "classes":
        units = layers(contract.classes, None)[name].units
        return {"units": units} if units else {}
    return {
        "class_names": list(contract.classes),
        "class_colors": list(contract.colours),
        "flag_values": list(range(len(contract.classes))),
        "flag_meanings": " ".join("_".join(name.split()) for name in contract.classes),
    }


def _silent(_: str) -> None:
    """Drop a log line."""
