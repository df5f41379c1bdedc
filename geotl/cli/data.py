"""The command that turns labels into chips; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.errors import DataError


def add_chips(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl chips` to the commands."""
    chips = commands.add_parser(
        "chips",
        parents=[common],
        help="cut chips out of scenes where labels lie",
        description="Write chips and a manifest: geotl chips SCENE.tif LABELS.gpkg -o FOLDER",
    )
    chips.add_argument("scenes", nargs="+", type=Path, metavar="SCENE", help="files or folders")
    chips.add_argument(
        "labels",
        type=Path,
        metavar="LABELS",
        help="points or polygons in any vector format, a CSV of coordinates, or a class raster",
    )
    chips.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    chips.add_argument("--overwrite", action="store_true", help="replace earlier chips")
    _what_labels_say(chips)
    _what_chips_are(chips)
    chips.add_argument("--sensor", default="rgb", help="the scenes' sensor (rgb)")
    chips.add_argument("--bands", nargs="+", help="bands wanted, in order (all of the sensor's)")
    chips.add_argument(
        "--mask", default="auto", help="of clouds: auto (the scene's own), none, or a file (auto)"
    )
    chips.add_argument("-q", "--quiet", action="store_true", help="no progress")
    chips.set_defaults(command=_chips)


def _what_labels_say(chips: argparse.ArgumentParser) -> None:
    chips.add_argument("--field", default="class", help="field that holds the class (class)")
    chips.add_argument("--layer", help="layer of the labels' file, if it holds several")
    chips.add_argument("--id-field", help="field of ids (the file's own numbering)")
    chips.add_argument("--crs", help="the labels' reference system, where their file is silent")
    chips.add_argument(
        "--map",
        nargs="+",
        default=[],
        action="extend",
        metavar="old=new",
        dest="mapping",
        help="rename or join classes; old= drops one, *= drops all that are not listed",
    )


def _what_chips_are(chips: argparse.ArgumentParser) -> None:
    chips.add_argument("--chip-px", type=int, default=64, help="side of a chip (64) [px]")
    chips.add_argument("--purity", type=float, default=0.8, help="least share of its class (0.8)")
    chips.add_argument("--per-polygon", type=int, help="most chips of one polygon (all that fit)")
    chips.add_argument("--step-px", type=int, help="between chips of a polygon (packed) [px]")
    chips.add_argument("--min-valid", type=float, default=0.8, help="least valid share (0.8)")
    chips.add_argument("--max-cloud", type=float, default=0.1, help="largest cloudy share (0.1)")
    chips.add_argument("--seed", type=int, default=0, help="of the draw for --per-polygon (0)")


def _chips(args: argparse.Namespace) -> None:
    from geotl.console import ProgressLine
    from geotl.data.chip_files import check_folder, write_chips
    from geotl.data.chips import ChipRules, place_chips
    from geotl.data.labelfiles import read_any
    from geotl.imagery.scene import open_scenes
    from geotl.imagery.sensors import get_sensor

    rules = ChipRules(
        args.chip_px,
        args.purity,
        args.per_polygon,
        args.step_px,
        args.min_valid,
        args.max_cloud,
        args.seed,
    )
    check_folder(args.out, overwrite=args.overwrite)
    mask = None if args.mask == "none" else args.mask
    scenes = open_scenes(args.scenes, get_sensor(args.sensor), args.bands, mask=mask)
    labels = read_any(
        args.labels,
        layer=args.layer,
        field=args.field,
        crs_to=scenes[0].grid.crs,
        id_field=args.id_field,
        mapping=mapping_of(args.mapping),
        crs=args.crs,
    )
    with ProgressLine(quiet=args.quiet) as line:
        placement = place_chips(scenes, labels, rules, tell=line.counter("placing chips"))
        manifest = write_chips(
            scenes,
            placement,
            args.out,
            overwrite=args.overwrite,
            tell=line.counter("writing chips"),
        )
    print("\n".join([*placement.notes, *placement.summary(), f"written: {manifest}"]))


def mapping_of(words: list[str]) -> dict[str, str | None]:
    """Old names and new from words such as old=new; None where nothing follows.

    Raises:
        DataError: a word without "=", or an old name told twice.

    >>> mapping_of(["grass=meadow", "water="])
    {'grass': 'meadow', 'water': None}
    """
    mapping: dict[str, str | None] = {}
    for word in words:
        old, sign, new = word.partition("=")
        if not sign or not old.strip() or old.strip() in mapping:
            raise DataError(
                f"--map: given {word!r}; allowed: old=new, each old name once, old= to drop it"
            )
        mapping[old.strip()] = new.strip() or None
    return mapping
