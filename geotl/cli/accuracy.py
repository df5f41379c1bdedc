"""The commands that test class maps: `geotl accuracy` and `geotl sample`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.cli.outputs import add_language, add_output, one_writer
from geotl.errors import DataError


def add_accuracy(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add both commands to the parser of all; `common` holds the options that all share."""
    accuracy = commands.add_parser(
        "accuracy",
        parents=[common],
        help="estimate accuracy and class areas of a map from reference data",
        description="Accuracies and error-adjusted areas with 95 % intervals (Olofsson et al. "
        "2014): geotl accuracy map.tif points.gpkg -o folder",
    )
    accuracy.add_argument("map", type=Path, metavar="MAP", help="class raster to test")
    accuracy.add_argument(
        "reference",
        type=Path,
        metavar="REFERENCE",
        help="points in any vector format, a CSV (x, y or lon, lat, and class), or a class raster",
    )
    accuracy.add_argument(
        "--field", help="field with the class of a point (default: reference, class or label)"
    )
    accuracy.add_argument("--layer", help="layer of the points' file (default: its only layer)")
    accuracy.add_argument(
        "--crs", help="reference system of the points, such as EPSG:4326 (default: their file's)"
    )
    _add_names(accuracy)
    accuracy.add_argument(
        "--reference-names",
        type=Path,
        metavar="FILE",
        help="class names of a reference raster, as --names (default: the raster's own names)",
    )
    accuracy.add_argument(
        "--design",
        choices=("stratified", "simple", "none"),
        help="how the points were drawn: at random in each mapped class, at random over the map, "
        "or not at random (default: as geotl sample noted in the file, else none)",
    )
    files = "folder for accuracy.json, classes.csv, matrix.csv and areas.png (default: none)"
    add_language(accuracy)
    add_output(accuracy, "FOLDER", files)
    accuracy.add_argument("--overwrite", action="store_true", help="replace these files")
    accuracy.set_defaults(command=_accuracy)
    _add_sample(commands, common)


def _add_sample(commands: Any, common: argparse.ArgumentParser) -> None:
    sample = commands.add_parser(
        "sample",
        parents=[common],
        help="draw random points for testing a class map",
        description="A stratified random sample of a map's pixels: geotl sample map.tif -n 300 -o "
        "points.gpkg; fill in the field reference, then geotl accuracy map.tif points.gpkg",
    )
    sample.add_argument("map", type=Path, metavar="MAP", help="class raster to test")
    size = sample.add_mutually_exclusive_group(required=True)
    size.add_argument("-n", "--points", type=int, dest="n", metavar="POINTS", help="points in all")
    size.add_argument(
        "--target-se",
        type=float,
        metavar="SE",
        help="as many points as give this standard error of overall accuracy, such as 0.01",
    )
    sample.add_argument(
        "--allocation",
        choices=("proportional", "equal", "neyman"),
        default="proportional",
        help="how points are divided among classes; proportional: by mapped area (default: "
        "proportional)",
    )
    sample.add_argument(
        "--min-per-class",
        type=int,
        metavar="POINTS",
        help="smallest number of points of a class (default: 50, or half an equal share of -n)",
    )
    sample.add_argument(
        "--expected",
        action="append",
        default=[],
        metavar="[CLASS=]SHARE",
        help="expected user's accuracy of a class, or of all others [fraction] (default: 0.8)",
    )
    _add_names(sample)
    sample.add_argument("--seed", type=int, default=0, help="seed of the random draw (default: 0)")
    add_output(sample, "GPKG", "file for the points (default: none, the plan is printed)")
    sample.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    sample.set_defaults(command=_sample)


def _add_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="file with the names of the map's classes, a line each such as 3,wetland; values of "
        "one name are joined (default: the map's own names)",
    )


@one_writer
def _accuracy(args: argparse.Namespace) -> None:
    from geotl.console import ProgressLine
    from geotl.evaluation.class_map import open_map, read_names
    from geotl.evaluation.map_accuracy import assess_points, assess_raster
    from geotl.evaluation.reference_points import is_raster
    from geotl.io.files import check_absent
    from geotl.reporting.accuracy_report import AREAS, FILES, as_text, write_assessment

    for name in FILES if args.output else ():
        check_absent(args.output / name, overwrite=args.overwrite)
    of = open_map(args.map, read_names(args.names) if args.names else None)
    with ProgressLine(quiet=args.quiet) as line:
        shown = line.counter("reading the map")
        if is_raster(args.reference):
            names = read_names(args.reference_names) if args.reference_names else None
            assessment = assess_raster(of, args.reference, names, shown)
        else:
            assessment = assess_points(
                of,
                args.reference,
                field=args.field,
                layer=args.layer,
                crs=args.crs,
                design=args.design,
                progress=shown,
            )
    print(as_text(assessment))
    if args.output:
        from geotl.reporting.accuracy_report import areas_figure
        from geotl.reporting.figures import write_png

        written = write_assessment(args.output, assessment)
        picture = args.output / AREAS
        write_png(picture, areas_figure(assessment))
        print("written    " + ", ".join(map(str, [*written, picture])))


@one_writer
def _sample(args: argparse.Namespace) -> None:
    from geotl.console import ProgressLine
    from geotl.evaluation.class_map import open_map, read_names
    from geotl.evaluation.reference_points import draw_sample, plan_sample
    from geotl.io.files import check_absent
    from geotl.reporting.accuracy_report import plan_lines

    if args.output:
        check_absent(args.output, overwrite=args.overwrite)
    of = open_map(args.map, read_names(args.names) if args.names else None)
    with ProgressLine(quiet=args.quiet) as line:
        plan = plan_sample(
            of,
            n=args.n,
            se_overall=args.target_se or 0.0,
            allocation=args.allocation,
            minimum=args.min_per_class,
            expected=_expected(args.expected),
            progress=line.counter("counting the map's pixels"),
        )
        (args.log if args.output else print)(plan_lines(plan))
        if args.output:
            progress = line.counter("drawing points")
            draw_sample(of, plan, args.output, seed=args.seed, progress=progress)
    if args.output:
        print(
            f"{plan.points.sum():,} points in {args.output}: fill in the field reference without "
            f"looking at the map, then geotl accuracy {args.map} {args.output}"
        )


def _expected(shares: list[str]) -> dict[str, float]:
    """User's accuracies by class from `CLASS=SHARE`, under "" what stands for all others.

    Raises:
        DataError: not a share.

    >>> _expected(["0.9", "water=0.99"])
    {'': 0.9, 'water': 0.99}
    """
    expected: dict[str, float] = {}
    for text in shares:
        name, _, share = text.rpartition("=")
        try:
            expected[name.strip()] = float(share)
        except ValueError as error:
            raise DataError(
                f"--expected {text}: no share; allowed: such as 0.9 or water=0.9"
            ) from error
    return expected
