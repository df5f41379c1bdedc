"""The command that exports a model; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.errors import DataError

FORMATS = ("onnx", "pt2", "torchscript", "deepness")


def add_export(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl export` to the commands."""
    made = commands.add_parser(
        "export", parents=[common], help="write a model in another format, checked against it",
        description="One file that takes raw pixel values and gives calibrated probabilities: "
        "geotl export MODEL --format onnx -o model.onnx",
    )  # fmt: skip
    made.add_argument("model", type=Path, metavar="MODEL")
    made.add_argument("--format", choices=FORMATS, required=True, dest="form")
    made.add_argument("-o", "--out", type=Path, required=True, metavar="PATH")
    made.add_argument(
        "--views", type=int, choices=[1, 2, 4, 8],
        help="flips and quarter turns averaged (the model's; deepness: 1)",
    )  # fmt: skip
    deepness = made.add_argument_group("for the Deepness plugin of QGIS (--format deepness)")
    deepness.add_argument("--tile-size", type=int, metavar="PX", help="of the plugin (512) [px]")
    deepness.add_argument("--step", type=int, help="between windows (half a window) [px]")
    deepness.add_argument(
        "--resolution", type=float, metavar="M", help="of a pixel, if the model knows none [m]"
    )
    made.add_argument("--overwrite", action="store_true", help="replace what is there")
    made.add_argument("-q", "--quiet", action="store_true", help="print nothing")
    made.set_defaults(command=_export)


def _export(args: argparse.Namespace) -> None:
    from geotl.modelfile import load

    if args.form == "deepness":
        _export_deepness(args)
        return
    from geotl.exporting import export_graph

    for name in ("tile_size", "step", "resolution"):
        if getattr(args, name) is not None:
            raise DataError(
                f"--{name.replace('_', '-')}: belongs to --format deepness, not to {args.form}"
            )
    export_graph(
        load(args.model), args.form, args.out, views=args.views, overwrite=args.overwrite,
        say=_silent if args.quiet else print,
    )  # fmt: skip


def _export_deepness(args: argparse.Namespace) -> None:
    from geotl.deepness import DeepnessOptions, export_deepness
    from geotl.modelfile import load

    options = DeepnessOptions(args.tile_size, args.step, args.views, args.resolution)
    export_deepness(
        load(args.model), args.out, options, overwrite=args.overwrite,
        say=_silent if args.quiet else print,
    )  # fmt: skip


def _silent(_: str) -> None:
    """Say nothing."""
