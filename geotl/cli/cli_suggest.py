"""The command that proposes where to label next; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_suggest(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl suggest` to the commands."""
    suggest = commands.add_parser(
        "suggest",
        parents=[common],
        help="propose where in scenes to label next",
        description="Uncertain and diverse windows inside the model's area of applicability, as "
        "points whose field class is to be filled in: geotl suggest MODEL SCENE.tif -n 50 -o "
        "suggestions.gpkg",
    )
    suggest.add_argument("model", type=Path, metavar="MODEL")
    suggest.add_argument("scenes", nargs="+", type=Path, metavar="SCENE", help="files or folders")
    suggest.add_argument("-n", type=int, default=50, metavar="POINTS", help="how many (50)")
    suggest.add_argument("-o", "--output", type=Path, required=True, metavar="GPKG")
    suggest.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    suggest.add_argument("--sensor", help="the scenes' sensor, if not the model's")
    suggest.add_argument(
        "--mask", default="auto", help="of clouds: auto (the scene's own), none, or a file (auto)"
    )
    suggest.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="points or polygons labelled already, whose ground is left alone, as the model's "
        "training tiles' is",
    )
    suggest.add_argument("--field", default="class", help="field that holds their class (class)")
    suggest.add_argument("--layer", help="layer of the labels' file, if it holds several")
    suggest.add_argument(
        "--step", type=int, metavar="PX", help="between windows looked at (a tile's side) [px]"
    )
    suggest.add_argument(
        "--outside", action="store_true", help="allow windows outside the area of applicability"
    )
    suggest.add_argument("--seed", type=int, default=0, help="of the order among equals (0)")
    suggest.add_argument("-q", "--quiet", action="store_true", help="no progress")
    suggest.set_defaults(command=_suggest)


def _suggest(args: argparse.Namespace) -> None:
    from geotl.api import load
    from geotl.console import ProgressLine
    from geotl.data.labels import read_labels
    from geotl.imagery.sensors import get_sensor
    from geotl.inference.active_learning import check_target, open_for, suggest, write_suggestions

    check_target(args.output, overwrite=args.overwrite)
    model = load(args.model).whole
    sensor = get_sensor(args.sensor) if args.sensor else None
    mask = None if args.mask == "none" else args.mask
    scenes = open_for(model, args.scenes, sensor=sensor, mask=mask)
    labels = None
    if args.labels:
        crs = scenes[0].grid.crs
        labels = read_labels(args.labels, layer=args.layer, field=args.field, crs_to=crs)
    with ProgressLine(quiet=args.quiet) as line:
        found = suggest(
            model,
            scenes,
            args.n,
            labels=labels,
            step_px=args.step,
            outside=args.outside,
            seed=args.seed,
            progress=line.counter("looking through scenes"),
        )
    write_suggestions(args.output, found, overwrite=args.overwrite)
    print("\n".join(found.lines()))
    print(
        f"{len(found)} points in {args.output}: fill in the field class, then train with "
        f"labels.path={args.output} labels.chip_px={model.contract.tile_px}"
    )
