"""The command that maps a scene with a model; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotl.cli.outputs import add_language, add_output
from geotl.cli.verbosity import last_line
from geotl.console import complain
from geotl.errors import OutputError, SettingError
from geotl.mapping.options import CHOICES, DEFAULT_COVERAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geotl.imagery.scene_list import Entry
    from geotl.imagery.sensors import Sensor
    from geotl.mapping.options import MapOptions
    from geotl.mapping.task import Reading

_MAPS = (".tif", ".tiff")
_NO_MAPS = frozenset(
    {".gpkg", ".geojson", ".json", ".shp", ".csv", ".txt", ".png", ".jpg", ".html", ".nc", ".jp2"}
)


def add_map(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl map` to the commands."""
    parser = commands.add_parser(
        "map",
        parents=[common],
        help="map the land cover of scenes with a model",
        description="A finished, georeferenced map: geotl map MODEL SCENE -o map.tif; or a map "
        "of each of several scenes in a folder: geotl map MODEL SCENES -o FOLDER",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model of tiles or of pixels")
    add_engine(parser)
    parser.add_argument(
        "scenes",
        nargs="+",
        type=Path,
        metavar="SCENE",
        help="image files, folders of band files, products; folders of such; .txt with a scene a "
        "line; STAC items or an item collection (.json) whose assets are on disk",
    )
    add_output(parser, "MAP.tif", "map to write; for several scenes a folder", required=True)
    _reading(parser)
    _looking(parser)
    _writing(parser)
    _sharing(parser)
    parser.set_defaults(command=_map)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the choice of what runs an exported file."""
    parser.add_argument(
        "--engine",
        choices=["onnxruntime", "openvino"],
        help="what runs an exported .onnx file (default: onnxruntime)",
    )


def add_extra(parser: argparse.ArgumentParser) -> None:
    """Add the rasters that describe pixels beside the scene's bands."""
    parser.add_argument(
        "--extra",
        action="append",
        default=[],
        type=Path,
        metavar="RASTER",
        help="raster with further bands, such as elevation or radar, for a model of pixels that "
        "was trained with pixels.extra; give it once for each (default: none)",
    )


def add_mask(command: argparse.ArgumentParser) -> None:
    """Add the choice of a cloud mask."""
    command.add_argument(
        "--mask",
        default="auto",
        help="cloud mask: auto (the scene's own), none, or a file that is not 0 where it is cloudy "
        "(default: auto)",
    )


def add_aoi(command: argparse.ArgumentParser, *, default: str = "the whole scene") -> None:
    """Add the choice of an area of interest.

    Args:
        command: that maps or labels the area.
        default: what holds without the option, for the help.
    """
    command.add_argument(
        "--aoi",
        metavar="FILE",
        help=f"polygons of the area to map, in any reference system (default: {default})",
    )


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sensor", help="sensor of the scene: geotl sensors (default: the model's)"
    )
    add_mask(parser)
    add_extra(parser)
    parser.add_argument(
        "--skip-value-check",
        action="store_true",
        help="accept pixel values outside the range of the model's training data",
    )
    add_aoi(parser)
    parser.add_argument(
        "--bbox",
        nargs=4,
        type=float,
        metavar=("LEFT", "BOTTOM", "RIGHT", "TOP"),
        help="rectangle to map, in the scene's reference system or --bbox-crs (default: the whole "
        "scene)",
    )
    parser.add_argument(
        "--bbox-crs",
        metavar="CRS",
        help="reference system of --bbox, such as EPSG:4326 (default: the scene's)",
    )


def _looking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stride-px",
        type=int,
        metavar="PX",
        help="distance between windows [px] (default: half a window)",
    )
    parser.add_argument(
        "--resolution-px",
        type=int,
        metavar="PX",
        help="side of the map's cells, in pixels of the scene [px] (default: the stride)",
    )
    parser.add_argument(
        "--mode",
        choices=["auto", "exact", "dense"],
        default="auto",
        help="exact: window by window; dense: batched over the block; auto: dense if it agrees "
        "with exact on a sample (default: auto)",
    )
    parser.add_argument(
        "--views",
        type=int,
        choices=[1, 2, 4, 8],
        help="number of flips and quarter turns averaged (default: 1; with --applicability the "
        "model's)",
    )
    parser.add_argument(
        "--block-px",
        type=int,
        default=1024,
        metavar="PX",
        help="side of the blocks that are read [px] (default: 1024)",
    )
    parser.add_argument(
        "--min-valid",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="smallest share of valid pixels in a window [fraction] (default: 0.5)",
    )
    parser.add_argument(
        "--smooth-px",
        type=int,
        metavar="N",
        help="smooth the probabilities of a model of pixels in windows of N pixels, an odd "
        "number; edges of the image stay [px] (default: off)",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="number format of the network; auto: bfloat16 where it is faster (default: auto)",
    )
    parser.add_argument(
        "--member",
        metavar="NAME",
        help="map with one member of a model of pixels; geotl inspect lists them (default: all)",
    )


def _writing(parser: argparse.ArgumentParser) -> None:
    for choice in CHOICES:
        parser.add_argument(f"--{choice.option}", action="store_true", help=choice.help)
    add_coverage(parser)
    parser.add_argument(
        "--mmu-ha",
        type=float,
        default=0.0,
        metavar="HA",
        help="minimum mapping unit: smaller patches take the class of their largest neighbour, "
        "in the class map, its areas and polygons [ha] (default: 0)",
    )
    parser.add_argument(
        "--polygons", action="store_true", help="write polygons of the classes, as a GeoPackage"
    )
    parser.add_argument(
        "--min-area",
        type=float,
        default=0.0,
        metavar="M2",
        help="smaller polygons become part of their largest neighbour [m2] (default: 0)",
    )
    parser.add_argument(
        "--no-page",
        action="store_true",
        help="write no figure (.png) and page (.html) beside the map",
    )
    add_language(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def add_coverage(command: argparse.ArgumentParser) -> None:
    """Add the option that says how sure prediction sets are."""
    command.add_argument(
        "--coverage",
        type=float,
        metavar="SHARE",
        help="with --sets: probability that a prediction set contains the true class (default: "
        "0.9)",
    )


def coverage_of(args: argparse.Namespace) -> float:
    """The coverage that prediction sets are to have.

    Raises:
        SettingError: one is given although no sets are wanted.
    """
    if args.coverage is not None and not args.sets:
        raise SettingError("--coverage: says how sure prediction sets are; give --sets too")
    return DEFAULT_COVERAGE if args.coverage is None else args.coverage


def _sharing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="address of a Dask cluster with the same files (default: processes of this machine)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes for several scenes (default: one for every four cores)",
    )
    parser.add_argument(
        "--retries",
        type=int,
        default=1,
        metavar="N",
        help="how often a scene that failed is tried again (default: 1)",
    )


def _map(args: argparse.Namespace) -> None:
    from geotl.imagery.scene_list import check_apart, scenes_in
    from geotl.imagery.sensors import get_sensor

    _check_output_name(args.output)
    own = _checked_sensor(args)
    sensor = get_sensor(args.sensor) if args.sensor else own
    listing = scenes_in(args.scenes, sensor)
    to_file = args.output.suffix.lower() in _MAPS
    if listing.single or (len(listing.entries) == 1 and to_file):
        _map_one(args, listing.entries[0])
        return
    if to_file or args.output.is_file():
        raise OutputError(
            f"{args.output}: {len(listing.entries)} scenes need a folder; give one with -o"
        )
    check_apart(args.scenes, args.output, sensor)
    _map_several(args, listing.entries)


def _check_output_name(path: Path) -> None:
    """Refuse the name of a file that is no map.

    Raises:
        OutputError: it has the ending of a table, a picture or a vector file.
    """
    if path.suffix.lower() in _NO_MAPS and not path.is_dir():
        raise OutputError(
            f"{path}: a map is a raster; give a name ending in .tif, or for several scenes a "
            "folder (--polygons writes a GeoPackage beside it; geotl predict classifies tiles "
            "into a .csv)"
        )


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

    job = Job(entry, args.model, args.output, _options(args), _reading_of(args), args.engine)
    with last_line(args) as log:
        run_job(job, quiet=args.quiet, log=log)


def _map_several(args: argparse.Namespace, entries: Sequence[Entry]) -> None:
    from geotl.mapping.jobs import Job
    from geotl.mapping.many_scenes import Crew, map_many

    options, reading = _options(args), _reading_of(args)
    jobs = [
        Job(entry, args.model, args.output / f"{entry.name}.tif", options, reading, args.engine)
        for entry in entries
    ]
    crew = Crew(args.scheduler, args.workers, args.retries)
    with last_line(args) as log:
        map_many(jobs, args.output, crew, quiet=args.quiet, say=log, complain=complain)


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
        step_px=args.stride_px,
        posting_px=args.resolution_px,
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
        force=args.skip_value_check,
        overwrite=args.overwrite,
        page=not args.no_page,
    )
