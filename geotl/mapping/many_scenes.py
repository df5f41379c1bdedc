"""Many scenes mapped by Dask's workers; their mosaic and the sum of their areas.

The only place that imports dask.distributed.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import shapely

from geotl.console import Log, ProgressLine
from geotl.errors import DataError, OutputError, UnfinishedError
from geotl.evaluation.class_map import ClassMap, open_map
from geotl.io.files import write_text
from geotl.io.raster import Grid
from geotl.io.tables import TableWriter
from geotl.mapping.jobs import Job, JobResult, attempt, cores, is_finished, mark_of
from geotl.mapping.options import NODATA
from geotl.mapping.task import AREAS, outputs
from geotl.reporting.templates import render

_ALL = "(all scenes)"
_HEAD = ["scene", "value", "class", "pixels", "square_metres", "hectares", "percent"]


def write_mosaics(folder: Path, maps: Sequence[Path], stem: str = "mosaic") -> list[Path]:
    """Write a VRT over class maps or confidences: one for each reference system.

    Where maps overlap, the later one lies on top. Pixels are as fine as those of the finest map.

    Args:
        folder: to write into; the paths of the maps are relative to it.
        maps: GeoTIFFs of one band of bytes, in order.
        stem: of the file's name; with several systems their codes follow it.

    Raises:
        DataError: a map that cannot be read.
        OutputError: the folder cannot be written.
    """
    systems: dict[str | None, list[ClassMap]] = defaultdict(list)
    for path in maps:
        found = open_map(path)
        systems[found.grid.crs].append(found)
    written = []
    for number, (crs, held) in enumerate(systems.items(), 1):
        code = "" if len(systems) == 1 else f"_{_code(crs, number)}"
        written.append(folder / f"{stem}{code}.vrt")
        write_text(written[-1], mosaic_vrt(held, folder))
    return written


def mosaic_vrt(maps: Sequence[ClassMap], folder: Path) -> str:
    """The VRT's XML over maps of one reference system."""
    grid = common_grid([of.grid for of in maps])
    first = maps[0]
    last = max(first.names, default=-1)
    a, b, c, d, e, f = grid.transform
    return render(
        "mosaic.vrt",
        "geotl.mapping",
        grid=grid,
        place=", ".join(repr(v) for v in (c, a, b, f, d, e)),  # GDAL's order
        nodata=NODATA,
        colours=[_rgb(text) for value, text in sorted(first.colours.items()) if value <= last],
        names=[first.names.get(value, "") for value in range(last + 1)],
        sources=[_source(of, grid, folder) for of in maps],
    )


def _rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of #rrggbb."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def common_grid(grids: Sequence[Grid]) -> Grid:
    """The north-up grid over several of one reference system, with pixels of the finest.

    >>> one = Grid(None, (10.0, 0.0, 0.0, 0.0, -10.0, 100.0), 5, 5)
    >>> two = Grid(None, (20.0, 0.0, 40.0, 0.0, -20.0, 120.0), 2, 2)
    >>> found = common_grid([one, two])
    >>> found.bounds, found.height, found.width
    ((0.0, 50.0, 80.0, 120.0), 7, 8)
    """
    across = min(grid.resolution[0] for grid in grids)
    down = min(grid.resolution[1] for grid in grids)
    boxes = [grid.bounds for grid in grids]
    left, bottom = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, top = max(b[2] for b in boxes), max(b[3] for b in boxes)
    width = max(1, math.ceil((right - left) / across - 1e-6))
    height = max(1, math.ceil((top - bottom) / down - 1e-6))
    return Grid(grids[0].crs, (across, 0.0, left, 0.0, -down, top), height, width)


def overlapping(maps: Sequence[Path]) -> bool:
    """Whether the boxes of any two maps of one reference system share ground.

    Raises:
        DataError: a map that cannot be read.
    """
    systems: dict[str | None, list[shapely.Geometry]] = defaultdict(list)
    for path in maps:
        grid = open_map(path).grid
        systems[grid.crs].append(shapely.box(*grid.bounds))
    for boxes in systems.values():
        tree = shapely.STRtree(boxes)
        for i, j in tree.query(boxes).T:
            if i < j and shapely.area(shapely.intersection(boxes[i], boxes[j])) > 0:
                return True
    return False


def areas_table(tables: Mapping[str, Path]) -> str:
    """The areas of all scenes by class, their sums at the end.

    Ground that lies in several scenes is counted in each.

    Args:
        tables: each scene's own table of areas.

    Raises:
        DataError: one cannot be read, or its classes are others.
    """
    rows: list[list[str]] = []
    sums: dict[tuple[str, str], list[float]] = {}
    for scene, path in tables.items():
        for row in _rows(path):
            rows.append([scene, *(row[name] for name in _HEAD[1:])])
            total = sums.setdefault((row["value"], row["class"]), [0.0, 0.0])
            total[0] += int(row["pixels"])
            total[1] += float(row["square_metres"] or "nan")
    whole = sum(pixels for pixels, _ in sums.values())
    for (value, name), (pixels, metres) in sums.items():
        known = math.isfinite(metres)
        ground = [f"{metres:.2f}", f"{metres / 1e4:.4f}"] if known else ["", ""]
        share = f"{100 * pixels / max(whole, 1):.2f}"
        rows.append([_ALL, value, name, f"{pixels:.0f}", *ground, share])
    stream = io.StringIO()
    table = TableWriter(stream)
    table.writerow(_HEAD)
    table.writerows(rows)
    return stream.getvalue()


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
            for row in rows:
                int(row["pixels"])
                float(row["square_metres"] or 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a table of areas as geotl map writes it ({error}); map the scene again "
            "with --overwrite"
        ) from error
    return rows


def _source(of: ClassMap, grid: Grid, folder: Path) -> dict[str, Any]:
    """One map in the mosaic: what it does not know lets those below it through."""
    left, bottom, right, top = of.grid.bounds
    across, down = grid.resolution
    x, y = (left - grid.transform[2]) / across, (grid.transform[5] - top) / down
    inside = of.path.is_relative_to(folder)
    path = of.path.relative_to(folder).as_posix() if inside else str(of.path.resolve())
    return {
        "name": path,
        "relative": int(inside),
        "width": of.grid.width,
        "height": of.grid.height,
        "x": round(x, 6),
        "y": round(y, 6),
        "wide": round((right - left) / across, 6),
        "high": round((top - bottom) / down, 6),
    }


def _code(crs: str | None, number: int) -> str:
    """A reference system in a file's name.

    >>> _code("EPSG:32633", 1), _code("PROJCS[...]", 2)
    ('EPSG32633', '2')
    """
    plain = (crs or "").replace(":", "")
    return plain if plain.isalnum() else str(number)


@dataclass(frozen=True)
class Crew:
    """Who maps.

    Attributes:
        scheduler: address of a Dask cluster whose workers see the same files; None for processes
            here.
        workers: how many of these; None for as many as suit.
        retries: how often a scene that failed is tried again.
    """

    scheduler: str | None = None
    workers: int | None = None
    retries: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.workers is not None and self.workers < 1:
            raise DataError(f"workers {self.workers}: allowed is 1 or more")
        if self.retries < 0:
            raise DataError(f"retries {self.retries}: allowed is 0 or more")
        if self.scheduler and self.workers:
            raise DataError("--scheduler and --workers: give one; a cluster has its own workers")


def workers_for(scenes: int, cores: int) -> int:
    """Processes that suit: four cores each, and no more than there are scenes.

    >>> workers_for(10, 16), workers_for(2, 16), workers_for(10, 2)
    (4, 2, 1)
    """
    return max(1, min(scenes, cores // 4))


def map_many(
    jobs: Sequence[Job],
    folder: Path,
    crew: Crew,
    *,
    quiet: bool = False,
    say: Log = print,
    complain: Log = print,
) -> list[JobResult]:
    """Map scenes into a folder; a mosaic and one table of areas are written beside the maps.

    Scenes that were mapped before, with the same model and options, are kept.

    Args:
        jobs: the scenes; each is mapped whole by one process.
        folder: of the maps.
        crew: who maps.
        quiet: no progress.
        say: gets a line for each scene that went well, and the sum.
        complain: gets a line for each that did not.

    Raises:
        OutputError: a map of other making stands there, or the folder cannot be written.
        UnfinishedError: some scenes failed; the others are finished.
        DataError: dask is not installed, the cluster does not answer, or no scene meets the area
            of interest.
    """
    _check_places(jobs)
    marked = [_marked(job) for job in jobs]
    kept = {job.entry.name for job in marked if _is_kept(job)}
    results = {name: JobResult(name, "kept", "mapped before") for name in kept}
    left = [job for job in marked if job.entry.name not in kept]
    if kept:
        say(f"{len(kept)} of {len(jobs)} scenes are mapped already and kept")
    with ProgressLine(quiet=quiet) as line:
        shown = line.counter("scenes")
        for outcome, final in _outcomes(left, crew):
            line.close()
            (complain if outcome.status == "failed" else say)(_result_line(outcome, final=final))
            if final:
                results[outcome.name] = outcome
                shown(len(results), len(jobs))
    outcomes = [results[job.entry.name] for job in jobs]
    _finish([j for j in jobs if results[j.entry.name].status in ("mapped", "kept")], folder, say)
    _sum_up(outcomes, say)
    return outcomes


def _check_places(jobs: Sequence[Job]) -> None:
    """Make sure that no map's file would take the place of another's, or of what is read.

    Raises:
        OutputError: one would.
    """
    taken: dict[Path, str] = {}
    for job in jobs:
        for path in (job.entry.path, *(asset.path for asset in job.entry.assets), job.model):
            taken[path.resolve()] = "would overwrite what is read"
    for job in jobs:
        for path in outputs(job.out, job.options).values():
            if why := taken.get(path.resolve()):
                raise OutputError(f"{path}: {why}; choose another folder, or rename the scene")
            taken[path.resolve()] = f"stands for a file of scene {job.entry.name} too"


def _marked(job: Job) -> Job:
    """The job with its mark; without one where its scene cannot be read, as the worker will say."""
    try:
        return replace(job, options=replace(job.options, mark=mark_of(job)))
    except DataError:
        return job


def _is_kept(job: Job) -> bool:
    """Whether a job's map is finished already.

    Raises:
        OutputError: another map stands in its place.
    """
    if job.options.overwrite or not job.out.exists():
        return False
    if is_finished(job):
        return True
    raise OutputError(
        f"{job.out}: is there already, of another model, scene or options, or in part; --overwrite "
        "replaces it, or choose another folder"
    )


def _outcomes(jobs: Sequence[Job], crew: Crew) -> Iterator[tuple[JobResult, bool]]:
    """What comes of jobs as it comes, and whether that is the last word on a scene."""
    if not jobs:
        return
    tries: Counter[str] = Counter()
    waiting = list(reversed(jobs))
    with ExitStack() as stack:
        client, share, width = _client(stack, crew, len(jobs))
        from distributed import as_completed

        running: dict[Any, Job] = {}
        done = as_completed(raise_errors=False)

        def start() -> None:
            job = waiting.pop()
            tries[job.entry.name] += 1
            key = f"map-{job.entry.name}-{tries[job.entry.name]}-{time.time_ns()}"
            future = client.submit(attempt, job, share, key=key, pure=False, retries=0)
            running[future] = job
            done.add(future)

        while waiting and len(running) < width:
            start()
        for future in done:
            job = running.pop(future)
            outcome = _outcome(future, job)
            future.release()
            final = outcome.status != "failed" or tries[job.entry.name] > crew.retries
            if not final:
                waiting.insert(0, job)
            yield outcome, final
            while waiting and len(running) < width:
                start()


def _client(stack: ExitStack, crew: Crew, scenes: int) -> tuple[Any, int, int]:
    """A client, how many scenes share a machine, and how many are sent at once.

    On a local cluster a process is given one scene at a time, so that when one dies it is known
    which scene it was at.

    Raises:
        DataError: dask is not installed, or the cluster does not answer.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise DataError(
            f"several scenes need dask.distributed, which is not installed ({error}); run "
            "pip install 'geotl[many]'"
        ) from error
    if crew.scheduler:
        try:
            client = stack.enter_context(Client(crew.scheduler, timeout="20s"))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"--scheduler {crew.scheduler}: does not answer ({reason}); allowed: an address "
                "such as tcp://10.0.0.1:8786 of a running dask scheduler"
            ) from error
        hosts: Counter[str] = Counter()
        for address, threads in client.nthreads().items():
            hosts[address.rpartition(":")[0]] += threads
        return client, max(hosts.values(), default=1), scenes
    workers = min(crew.workers or workers_for(scenes, cores()), scenes)
    cluster = stack.enter_context(
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            dashboard_address=None,
            silence_logs="CRITICAL",
            scheduler_kwargs={"allowed_failures": 0},
            env={"OMP_NUM_THREADS": str(max(1, cores() // workers))},
        )
    )
    return stack.enter_context(Client(cluster)), workers, workers


def _outcome(future: Any, job: Job) -> JobResult:
    """What a future holds; a worker that died, or an unforeseen error, is a failure."""
    from distributed import KilledWorker

    if future.status == "finished":
        outcome: JobResult = future.result()
        return outcome
    if future.status == "cancelled":
        return JobResult(job.entry.name, "failed", "the cluster was lost")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return JobResult(
            job.entry.name, "failed", "the process that mapped it died (killed, or out of memory)"
        )
    return JobResult(job.entry.name, "failed", f"{type(error).__name__}: {error}")


def _result_line(outcome: JobResult, *, final: bool) -> str:
    again = "" if final else "; once more"
    if outcome.status == "mapped":
        return f"{outcome.name}: {outcome.message}"
    return f"{outcome.name}: {outcome.status}: {outcome.message}{again}"


def _finish(jobs: Sequence[Job], folder: Path, say: Log) -> None:
    """Mosaics and areas of the maps there are."""
    if not jobs:
        return
    maps = [job.out for job in jobs]
    mosaics = write_mosaics(folder, maps)
    confidences = [outputs(job.out, job.options)["confidence"] for job in jobs]
    mosaics += write_mosaics(folder, confidences, "mosaic_confidence")
    tables = {job.entry.name: outputs(job.out, job.options)[AREAS] for job in jobs}
    write_text(folder / "areas.csv", areas_table(tables))
    shared = overlapping(maps)
    twice = ": scenes overlap, and ground under several is counted in each" if shared else ""
    top = ": where scenes overlap the later one lies on top" if shared else ""
    say(f"areas    {folder / 'areas.csv'}{twice}")
    say(f"mosaic   {', '.join(str(path) for path in mosaics)}{top}")


def _sum_up(outcomes: Sequence[JobResult], say: Log) -> None:
    """Say how many scenes went how.

    Raises:
        UnfinishedError: some failed.
        DataError: none was mapped, as none meets the area of interest.
    """
    counts = Counter(outcome.status for outcome in outcomes)
    listed = [f"{counts[s]} {s}" for s in ("mapped", "kept", "skipped", "failed") if counts[s]]
    say(f"scenes   {', '.join(listed)}")
    failed = [outcome.name for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise UnfinishedError(
            f"{len(failed)} of {len(outcomes)} scenes failed: {', '.join(failed)}; mend them or "
            "leave them out, and run the same command again: what is finished is kept"
        )
    if counts["skipped"] == len(outcomes):
        raise DataError("no scene meets the area of interest; check --aoi or --bbox and its system")
