"""The command that exports a model; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.errors import OutputError

GRAPHS = ("onnx", "pt2", "torchscript")
FORMATS = (*GRAPHS, "mlm", "hub")


def add_export(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl export` to the commands."""
    made = commands.add_parser(
        "export", parents=[common], help="write a model in another format, checked against it",
        description="One file that takes raw pixel values and gives calibrated probabilities: "
        "geotl export MODEL --format onnx -o model.onnx; or what says of it what it is: --format "
        "mlm -o item.json, or a folder to publish: --format hub -o FOLDER",
    )  # fmt: skip
    made.add_argument("model", type=Path, metavar="MODEL")
    made.add_argument("--format", choices=FORMATS, required=True, dest="form")
    made.add_argument("-o", "--out", type=Path, required=True, metavar="PATH")
    made.add_argument(
        "--views", type=int, choices=[1, 2, 4, 8],
        help="flips and quarter turns averaged (the model's)",
    )  # fmt: skip
    made.add_argument(
        "--asset", type=Path, action="append", default=[], metavar="FILE",
        help="a further file that the STAC item names, such as the model's ONNX file (mlm)",
    )  # fmt: skip
    made.add_argument("--licence", help="of the model, such as CC-BY-4.0 (mlm, hub)")
    made.add_argument("--data-licence", help="of imagery and labels (hub)")
    made.add_argument("--overwrite", action="store_true", help="replace what is there")
    made.add_argument("-q", "--quiet", action="store_true", help="print nothing")
    made.set_defaults(command=_export)


def _export(args: argparse.Namespace) -> None:
    from geotl.modelfile import load

    say = _silent if args.quiet else print
    _check_options(args)
    model = load(args.model)
    if args.form == "mlm":
        from geotl.itemfiles import write_item

        write_item(
            model, args.out, args.asset, licence=args.licence, overwrite=args.overwrite, say=say
        )
        return
    if args.form == "hub":
        from geotl.hubfolder import Terms, write_hub

        terms = Terms(args.licence, args.data_licence)
        write_hub(model, args.out, terms=terms, overwrite=args.overwrite, say=say)
        return
    from geotl.exporting import export_graph

    export_graph(
        model, args.form, args.out, views=args.views, overwrite=args.overwrite, say=say
    )  # fmt: skip


def _check_options(args: argparse.Namespace) -> None:
    """Refuse an option that the format has no use for.

    Raises:
        OutputError: there is one.
    """
    for option, given, forms in (
        ("--views", args.views, GRAPHS),
        ("--asset", args.asset, ("mlm",)),
        ("--licence", args.licence, ("mlm", "hub")),
        ("--data-licence", args.data_licence, ("hub",)),
    ):
        if given and args.form not in forms:
            raise OutputError(
                f"{option}: means nothing to --format {args.form}; allowed with "
                f"{' and '.join(forms)}; leave it out"
            )


def _silent(_: str) -> None:
    """Say nothing."""
