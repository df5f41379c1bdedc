"""The command that looks at labelled tiles before training: `geotl check`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotl.console import silent

if TYPE_CHECKING:
    from geotl.experiments.draws import Source
    from geotl.experiments.recipe import Recipe


def add_check(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser of all; `common` holds the options that all share."""
    check = commands.add_parser(
        "check",
        parents=[common],
        help="look at labelled tiles before training",
        description="Counts, sizes, radiometry, nodata, duplicates, overlaps, label conflicts and "
        "outliers, with remedies: geotl check DATA --sensor sentinel2_l2a -o folder; for class "
        "folders of tiles that hold some of its bands: geotl check DATA --sensor sentinel2_l2a "
        "data.bands=B02,B03,B04,B08",
    )
    check.add_argument(
        "data",
        metavar="DATA",
        help="folder of class folders, manifest (.csv, .geojson), sample:NAME, "
        "torchgeo:NAME:FOLDER, or a recipe's name or YAML file",
    )
    check.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings to change (data.root=FOLDER)"
    )
    check.add_argument("--sensor", help="the tiles' sensor (rgb, or the recipe's)")
    check.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write check.html, check.json and the pictures",
    )
    check.add_argument(
        "--per-class", type=int, default=8, metavar="N", help="tiles on the contact sheet (8)"
    )
    check.add_argument("-q", "--quiet", action="store_true", help="no progress")
    check.set_defaults(command=_check)


def _check(args: argparse.Namespace) -> None:
    from geotl.console import ProgressLine
    from geotl.data.checks import check_tiles
    from geotl.experiments.build import read_source, recipe_sensor
    from geotl.experiments.run import rgb_positions
    from geotl.experiments.schema import SPATIAL
    from geotl.reporting.check_report import told, write_check

    recipe = _recipe(args)
    sensor = recipe_sensor(recipe)
    source = read_source(recipe, sensor, silent, quiet=args.quiet).real
    if source.placement is not None:
        print("\n".join((*source.placement.notes, *source.placement.summary())))
    sizes = _sizes(source, recipe.data.file_bands)
    with ProgressLine(quiet=args.quiet) as line:
        found = check_tiles(
            source.index,
            sensor,
            source.pack,
            sizes=sizes,
            apart=recipe.split.method in SPATIAL,
            progress=line.counter("looking"),
        )
    print(told(found))
    if args.output:
        written = write_check(
            args.output,
            found,
            rgb_positions(source),
            per_class=args.per_class,
            title=Path(args.data).stem or args.data,
        )
        print("\nwritten  " + ", ".join(map(str, written)))


def _sizes(source: Source, file_bands: Sequence[str] | None) -> list[tuple[int, int]]:
    """Rows and columns of each tile's file; none for chips, which are of one size."""
    from geotl.data.read_tile import check_headers

    if source.placement is not None:
        return []
    paths = [tile.path for tile in source.index.tiles]
    infos = check_headers(paths, source.sensor, source.pack.bands, file_bands)
    return [(info.grid.height, info.grid.width) for info in infos]


def _recipe(args: argparse.Namespace) -> Recipe:
    """The recipe named, or one made of the tiles and the sensor named."""
    from geotl.experiments.recipe import load

    sensor = [f"data.sensor={args.sensor}"] if args.sensor else []
    path = Path(args.data).expanduser()
    tiles = path.is_dir() or path.suffix.lower() in {".csv", ".geojson", ".json"}
    if tiles or args.data.startswith(("sample:", "torchgeo:")):
        return load(None, [f"data.root={args.data}", *sensor, *args.overrides])
    return load(args.data, [*sensor, *args.overrides])
