"""The command that maps a scene with a model; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotl.console import complain, sayer
from geotl.errors import OutputError, SettingError
from geotl.mapping.options import CHOICES, DEFAULT_COVERAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotl.imagery.scene_list import Entry
    from geotl.imagery.sensors import Sensor
    from geotl.mapping.options import MapOptions
    from geotl.mapping.task import Reading

_MAPS = (".tif", ".tiff")


def add_map(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl map` to the commands."""
    made = commands.add_parser(
        "map",
        parents=[common],
        help="map the land cover of a scene with a model",
        description="A finished, georeferenced map: geotl map MODEL SCENE -o map.tif; or a map "
        "of each of several scenes in a folder: geotl map MODEL SCENES -o FOLDER",
    )
    made.add_argument("model", type=Path, metavar="MODEL")
    add_engine(made)
    made.add_argument(
        "scenes",
        nargs="+",
        type=Path,
        metavar="SCENE",
        help="image files, folders of band files, products; folders of such; .txt with a scene a "
        "line; STAC items or an item collection (.json) whose assets are on disk",
    )
    made.add_argument(
        "-o", "--out", type=Path, required=True, metavar="MAP.tif", help="or a folder, for several"
    )
    _reading(made)
    _looking(made)
    _writing(made)
    _sharing(made)
    made.add_argument("-q", "--quiet", action="store_true", help="no progress")
    made.set_defaults(command=_map)


def add_engine(made: argparse.ArgumentParser) -> None:
    """Add the choice of what runs an exported file."""
    made.add_argument(
        "--engine",
        choices=["onnxruntime", "openvino"],
        help="runs MODEL where it is an exported .onnx file (onnxruntime)",
    )


def add_extra(made: argparse.ArgumentParser) -> None:
    """Add the rasters that describe pixels beside the scene's bands."""
    made.add_argument(
        "--extra",
        action="append",
        default=[],
        type=Path,
        metavar="RASTER",
        help="of the same kind as one of pixels.extra that a model of pixels was trained with, in "
        "any reference system and pixel size; once for each",
    )


def _reading(made: argparse.ArgumentParser) -> None:
    made.add_argument("--sensor", help="the scene's sensor, if not the model's")
    made.add_argument("--mask", default="auto", help="of clouds: auto, none, or a file (auto)")
    add_extra(made)
    made.add_argument("--force", action="store_true", help="map values the model never saw")
    made.add_argument("--aoi", type=Path, metavar="FILE", help="polygons, in any system")
    made.add_argument(
        "--bbox",
        nargs=4,
        type=float,
        metavar=("LEFT", "BOTTOM", "RIGHT", "TOP"),
        help="in the scene's system, or --bbox-crs",
    )
    made.add_argument("--bbox-crs", metavar="CRS", help="such as EPSG:4326")


def _looking(made: argparse.ArgumentParser) -> None:
    made.add_argument("--step", type=int, help="between windows (half a window) [px]")
    made.add_argument("--posting", type=int, help="side of the map's cells (the step) [px]")
    made.add_argument(
        "--mode",
        choices=["auto", "exact", "dense"],
        default="auto",
        help="each window by itself, or all at once (auto: at once if it agrees)",
    )
    made.add_argument(
        "--views",
        type=int,
        choices=[1, 2, 4, 8],
        help="flips and quarter turns averaged (1; with --applicability the model's)",
    )
    made.add_argument("--block-px", type=int, default=1024, help="read at once (1024) [px]")
    made.add_argument("--min-valid", type=float, default=0.5, help="of a window (0.5)")
    made.add_argument(
        "--smooth-px",
        type=int,
        metavar="N",
        help="smooth the probabilities of a model of pixels in windows of N pixels, an odd "
        "number; edges of the image stay (off) [px]",
    )
    made.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    made.add_argument(
        "--member",
        metavar="NAME",
        help="map with one member of a model of pixels alone; geotl inspect lists them (all)",
    )


def _writing(made: argparse.ArgumentParser) -> None:
    for choice in CHOICES:
        made.add_argument(f"--{choice.option}", action="store_true", help=choice.help)
    add_coverage(made)
    made.add_argument(
        "--mmu-ha",
        type=float,
        default=0.0,
        metavar="HA",
        help="minimum mapping unit: smaller patches take the class of their largest neighbour, "
        "in the class map, its areas and polygons (0) [ha]",
    )
    made.add_argument("--polygons", action="store_true", help="of the classes, as a GeoPackage")
    made.add_argument(
        "--min-area",
        type=float,
        default=0.0,
        metavar="M2",
        help="smaller polygons become part of their largest neighbour (0) [m2]",
    )
    made.add_argument("--no-page", action="store_true", help="no map.png and map.html beside it")
    made.add_argument("--overwrite", action="store_true", help="replace what is there")


def add_coverage(command: argparse.ArgumentParser) -> None:
    """Add the option that says how sure prediction sets are."""
    command.add_argument(
        "--coverage",
        type=float,
        metavar="SHARE",
        help="with --sets: probability that a set holds the true class (0.9)",
    )


def coverage_of(args: argparse.Namespace) -> float:
    """The coverage that prediction sets are to have.

    Raises:
        SettingError: one is given although no sets are wanted.
    """
    if args.coverage is not None and not args.sets:
        raise SettingError("--coverage: says how sure prediction sets are; give --sets too")
    return DEFAULT_COVERAGE if args.coverage is None else args.coverage


def _sharing(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a Dask cluster that sees the same files"
    )
    made.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes for several scenes (one for every four cores)",
    )
    made.add_argument(
        "--retries", type=int, default=1, metavar="N", help="of a scene that failed (1)"
    )


def _map(args: argparse.Namespace) -> None:
    from geotl.imagery.scene_list import check_apart, scenes_in
    from geotl.imagery.sensors import get_sensor

    own = _checked_sensor(args)
    sensor = get_sensor(args.sensor) if args.sensor else own
    listing = scenes_in(args.scenes, sensor)
    to_file = args.out.suffix.lower() in _MAPS
    if listing.single or (len(listing.entries) == 1 and to_file):
        _map_one(args, listing.entries[0])
        return
    if to_file or args.out.is_file():
        raise OutputError(
            f"{args.out}: {len(listing.entries)} scenes need a folder; give one with -o"
        )
    check_apart(args.scenes, args.out, sensor)
    _map_several(args, listing.entries)


def _checked_sensor(args: argparse.Namespace) -> Sensor:
    """The model's sensor; what its file cannot do is refused before any scene is looked at."""
    from geotl.imagery.sensors import sensor_from
    from geotl.inference.extras import WantedExtras, check_extras, extras_in, extras_of
    from geotl.inference.onnx_model import check_engine, engine_for, is_exported, open_served
    from geotl.mapping.task import check_pixel_options, check_served, check_tile_options
    from geotl.models.model_file import read_header
    from geotl.models.pixel_file import is_pixel_model, read_pixel_header

    if is_exported(args.model):
        served = open_served(args.model, args.engine)
        check_extras(args.model, extras_of(served), args.extra)
        check_served(served, _options(args))
        return served.contract.sensor
    if is_pixel_model(args.model):
        check_engine(args.model, args.engine)
        check_pixel_options(args.model, _options(args))
        header = read_pixel_header(args.model)
        check_extras(args.model, extras_in(header), args.extra)
        return sensor_from(header["contract"]["sensor"])
    engine_for(args.model, args.engine)
    check_tile_options(args.model, _options(args))
    check_extras(args.model, WantedExtras(), args.extra)
    return sensor_from(read_header(args.model)["sensor"])


def _map_one(args: argparse.Namespace, entry: Entry) -> None:
    from geotl.mapping.jobs import Job, run_job

    job = Job(entry, args.model, args.out, _options(args), _reading_of(args), args.engine)
    run_job(job, quiet=args.quiet, log=sayer(quiet=args.quiet))


def _map_several(args: argparse.Namespace, entries: Sequence[Entry]) -> None:
    from geotl.mapping.jobs import Job
    from geotl.mapping.many_scenes import Crew, map_many

    options, reading = _options(args), _reading_of(args)
    jobs = [
        Job(entry, args.model, args.out / f"{entry.name}.tif", options, reading, args.engine)
        for entry in entries
    ]
    map_many(
        jobs,
        args.out,
        Crew(args.scheduler, args.workers, args.retries),
        quiet=args.quiet,
        say=sayer(quiet=args.quiet),
        complain=complain,
    )


def _reading_of(args: argparse.Namespace) -> Reading:
    from geotl.mapping.task import Reading

    return Reading(
        args.sensor,
        None if args.mask == "none" else args.mask,
        args.aoi,
        tuple(args.bbox) if args.bbox else None,
        args.bbox_crs,
        tuple(args.extra),
    )


def _options(args: argparse.Namespace) -> MapOptions:
    from geotl.mapping.options import MapOptions

    return MapOptions(
        step_px=args.step,
        posting_px=args.posting,
        mode=args.mode,
        views=args.views,
        block_px=args.block_px,
        min_valid=args.min_valid,
        precision=args.precision,
        member=args.member,
        smooth_px=args.smooth_px,
        mmu_ha=args.mmu_ha,
        **{choice.option: getattr(args, choice.option) for choice in CHOICES},
        coverage=coverage_of(args),
        polygons=args.polygons,
        min_area_m2=args.min_area,
        force=args.force,
        overwrite=args.overwrite,
        page=not args.no_page,
    )
