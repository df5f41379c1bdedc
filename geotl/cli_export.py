"""The command that exports a model; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

FORMATS = ("onnx", "pt2", "torchscript", "safetensors")


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
        help="flips and quarter turns averaged (the model's)",
    )  # fmt: skip
    made.add_argument(
        "--precision", choices=["float32", "float16", "int8"], default="float32",
        help="number format of the network in an ONNX file (float32)",
    )  # fmt: skip
    made.add_argument(
        "--tiles", type=Path, metavar="DATA",
        help="labelled tiles for int8: ranges are measured on one half, its loss on the other",
    )  # fmt: skip
    made.add_argument(
        "--max-loss", type=float, default=1.0, metavar="POINTS",
        help="percentage points of accuracy that int8 may cost (1)",
    )  # fmt: skip
    made.add_argument("--overwrite", action="store_true", help="replace what is there")
    made.add_argument("-q", "--quiet", action="store_true", help="print nothing")
    made.set_defaults(command=_export)


def _export(args: argparse.Namespace) -> None:
    from geotl.exporting import BARE_FORMAT, Rounding, export_bare, export_graph
    from geotl.modelfile import load

    say = _silent if args.quiet else print
    rounding = Rounding(args.precision, args.tiles, args.max_loss)
    if args.form == BARE_FORMAT:
        rounding.check(args.form, args.views)
        export_bare(load(args.model), args.out, overwrite=args.overwrite, say=say)
        return
    export_graph(
        load(args.model), args.form, args.out, views=args.views, overwrite=args.overwrite,
        rounding=rounding, say=say,
    )  # fmt: skip


def _silent(_: str) -> None:
    """Say nothing."""
