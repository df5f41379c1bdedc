"""The command that opens the page where a scene is labelled; heavy imports wait inside it."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from geotl.cli.map import add_aoi
from geotl.cli.outputs import add_output
from geotl.errors import SettingError

_NEEDED = ("fastapi", "uvicorn")


def add_label(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl label` to the commands."""
    label = commands.add_parser(
        "label",
        parents=[common],
        help="label points and polygons in a page, with a map that follows",
        description="Open a page on this machine alone, where points and polygons are placed on a "
        "scene and a map follows them: geotl label SCENE -o FOLDER. Ctrl+C ends it; the same "
        "command goes on.",
    )
    label.add_argument(
        "scene", type=Path, metavar="SCENE", help="image file or folder of band files"
    )
    add_output(
        label, "FOLDER", "folder of the project, new or one to go on with (default: SCENE_labels)"
    )
    _what_is_read(label)
    _what_it_begins_with(label)
    _what_is_tested(label)
    label.add_argument(
        "--port", type=int, metavar="N", help="port on 127.0.0.1 (default: a free one)"
    )
    label.add_argument(
        "--no-browser", action="store_true", help="print the address, and open no browser"
    )
    label.set_defaults(command=_label)


def _what_is_read(label: argparse.ArgumentParser) -> None:
    label.add_argument(
        "--sensor",
        help="sensor of the scene: geotl sensors (default: the project's, then the "
        "product's, then rgb for a picture of up to four bands)",
    )
    label.add_argument(
        "--bands",
        nargs="+",
        help="bands to use, in order; of a file without names of bands, all in file order "
        "(default: those of the sensor's that are there)",
    )
    label.add_argument(
        "--mask",
        help="cloud mask: auto (the scene's own), none, or a file that is not 0 where it is cloudy "
        "(default: the project's, for a new one auto)",
    )
    add_aoi(label, default="the project's, for a new one none, which is the whole scene")
    label.add_argument(
        "--weights",
        metavar="FILE",
        help="weights of a network whose features the model uses too, or none (default: the "
        "project's, for a new one none)",
    )
    label.add_argument(
        "--cache-gb",
        type=float,
        metavar="GB",
        help="what features of the scene may take of the disk [10^9 bytes] (default: the "
        "project's, for a new one 10)",
    )
    label.add_argument(
        "--smooth-px",
        type=int,
        metavar="N",
        help="smooth the finished map, and the page's when it rests, as geotl map does, in windows "
        "of N pixels, an odd number; 1: not [px] (default: the project's, for a new one 11)",
    )


def _what_it_begins_with(label: argparse.ArgumentParser) -> None:
    label.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of classes, one a line, or a CSV of name,colour (default: none)",
    )
    label.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="points or polygons to begin with, in any vector format, or a CSV of coordinates "
        "(default: none)",
    )
    label.add_argument(
        "--field", default="class", help="field of --labels with the class (default: class)"
    )
    label.add_argument("--layer", help="layer of --labels (default: its only layer)")


def _what_is_tested(label: argparse.ArgumentParser) -> None:
    label.add_argument(
        "--sample",
        type=Path,
        metavar="FILE",
        help="points of geotl sample to label without seeing a map, instead of labels that train "
        "(default: the project's)",
    )
    label.add_argument(
        "--map",
        type=Path,
        metavar="FILE",
        help="with --sample: class map whose accuracy and areas are estimated at the end "
        "(default: the project's)",
    )


def _label(args: argparse.Namespace) -> None:
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise SettingError(f"geotl label needs {' and '.join(missing)}; pip install 'geotl[label]'")
    from geotl.labelling.choices import LabelOptions
    from geotl.labelling.session import label

    options = LabelOptions(
        args.sensor,
        None if args.bands is None else tuple(args.bands),
        args.mask,
        args.weights,
        args.aoi,
        args.cache_gb,
        args.smooth_px,
        args.classes,
        args.labels,
        args.field,
        args.layer,
        args.sample,
        args.map,
        args.port,
        browser=not args.no_browser,
    )
    folder = args.output or Path(f"{args.scene.stem or 'scene'}_labels")
    label(args.scene, folder, options, log=args.log, show=_show)


def _show(line: str) -> None:
    print(line, flush=True)
