"""The command that maps a scene with a model; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geotl.maptask import MapOptions


def add_map(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl map` to the commands."""
    made = commands.add_parser(
        "map", parents=[common], help="map the land cover of a scene with a model",
        description="A finished, georeferenced map: geotl map MODEL SCENE -o map.tif",
    )  # fmt: skip
    made.add_argument("model", type=Path, metavar="MODEL")
    made.add_argument("scene", type=Path, metavar="SCENE", help="a file, or a folder of band files")
    made.add_argument("-o", "--out", type=Path, required=True, metavar="MAP.tif")
    _reading(made)
    _looking(made)
    _writing(made)
    made.add_argument("-q", "--quiet", action="store_true", help="no progress")
    made.set_defaults(command=_map)


def _reading(made: argparse.ArgumentParser) -> None:
    made.add_argument("--sensor", help="the scene's sensor, if not the model's")
    made.add_argument("--mask", default="auto", help="of clouds: auto, none, or a file (auto)")
    made.add_argument("--force", action="store_true", help="map values the model never saw")
    made.add_argument("--aoi", type=Path, metavar="FILE", help="polygons, in any system")
    made.add_argument(
        "--bbox", nargs=4, type=float, metavar=("LEFT", "BOTTOM", "RIGHT", "TOP"),
        help="in the scene's system, or --bbox-crs",
    )  # fmt: skip
    made.add_argument("--bbox-crs", metavar="CRS", help="such as EPSG:4326")


def _looking(made: argparse.ArgumentParser) -> None:
    made.add_argument("--step", type=int, help="between windows (half a window) [px]")
    made.add_argument("--posting", type=int, help="side of the map's cells (the step) [px]")
    made.add_argument(
        "--mode", choices=["auto", "exact", "dense"], default="auto",
        help="each window by itself, or all at once (auto: at once if it agrees)",
    )  # fmt: skip
    made.add_argument(
        "--views", type=int, choices=[1, 2, 4, 8],
        help="flips and quarter turns averaged (1; with --applicability the model's)",
    )  # fmt: skip
    made.add_argument("--block-px", type=int, default=1024, help="read at once (1024) [px]")
    made.add_argument("--min-valid", type=float, default=0.5, help="of a window (0.5)")
    made.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")


def _writing(made: argparse.ArgumentParser) -> None:
    made.add_argument("--probabilities", action="store_true", help="of every class")
    made.add_argument("--applicability", action="store_true", help="where the model applies")
    made.add_argument("--entropy", action="store_true", help="how mixed the answer is")
    made.add_argument("--polygons", action="store_true", help="of the classes, as a GeoPackage")
    made.add_argument(
        "--min-area", type=float, default=0.0, metavar="M2",
        help="smaller polygons become part of their largest neighbour (0) [m2]",
    )  # fmt: skip
    made.add_argument("--no-page", action="store_true", help="no map.png and map.html beside it")
    made.add_argument("--overwrite", action="store_true", help="replace what is there")


def _map(args: argparse.Namespace) -> None:
    from geotl.api import load
    from geotl.mapinputs import interest_in, open_for
    from geotl.mapmaking import map_scene
    from geotl.sensors import get_sensor

    model, options = load(args.model).file, _options(args)
    scene = open_for(
        model, args.scene, sensor=get_sensor(args.sensor) if args.sensor else None,
        mask=None if args.mask == "none" else args.mask,
    )  # fmt: skip
    interest = interest_in(
        scene, model.contract.tile_px, options,
        aoi=args.aoi, bbox=args.bbox, bbox_crs=args.bbox_crs,
    )  # fmt: skip
    map_scene(
        model, scene, args.out, options, interest=interest, quiet=args.quiet,
        say=_silent if args.quiet else print,
    )  # fmt: skip


def _options(args: argparse.Namespace) -> MapOptions:
    from geotl.maptask import MapOptions

    return MapOptions(
        step_px=args.step, posting_px=args.posting, mode=args.mode, views=args.views,
        block_px=args.block_px, min_valid=args.min_valid, precision=args.precision,
        probabilities=args.probabilities, applicability=args.applicability,
        entropy=args.entropy, polygons=args.polygons, min_area_m2=args.min_area,
        force=args.force, overwrite=args.overwrite, page=not args.no_page,
    )  # fmt: skip


def _silent(_: str) -> None:
    """Say nothing."""
