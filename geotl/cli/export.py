"""The command that exports a model; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotl.cli.outputs import one_writer
from geotl.console import Log, sayer
from geotl.errors import SettingError

if TYPE_CHECKING:
    from geotl.models.model_file import ModelFile
    from geotl.models.pixel_file import PixelModelFile

GRAPHS = ("onnx", "pt2", "torchscript")
FORMATS = (*GRAPHS, "safetensors", "deepness", "mlm", "hub")
PIXEL_FORMATS = ("onnx", "pt2", "deepness", "mlm")
_ONLY = {  # an option that some formats alone have a use for, as argparse names it
    "views": (*GRAPHS, "deepness"),
    "tile_size": ("deepness",),
    "step": ("deepness",),
    "resolution": ("deepness",),
    "asset": ("mlm",),
    "member": ("onnx", "pt2", "deepness"),
    "licence": ("mlm", "hub"),
    "data_licence": ("hub",),
}


def add_export(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl export` to the commands."""
    made = commands.add_parser(
        "export",
        parents=[common],
        help="write a model in another format, checked against it",
        description="One file that takes raw pixel values and gives calibrated probabilities: "
        "geotl export MODEL --format onnx -o model.onnx; or what says of it what it is: --format "
        "mlm -o item.json, or a folder to publish: --format hub -o FOLDER",
    )
    made.add_argument("model", type=Path, metavar="MODEL")
    made.add_argument("--format", choices=FORMATS, required=True, dest="form")
    made.add_argument("-o", "--out", type=Path, required=True, metavar="PATH")
    made.add_argument(
        "--views",
        type=int,
        choices=[1, 2, 4, 8],
        help="flips and quarter turns averaged (the model's; deepness: 1)",
    )
    made.add_argument(
        "--member",
        metavar="NAME",
        help="of a model of pixels, exported alone; geotl inspect lists them (all)",
    )
    _rounding(made)
    deepness = made.add_argument_group("for the Deepness plugin of QGIS (--format deepness)")
    deepness.add_argument("--tile-size", type=int, metavar="PX", help="of the plugin (512) [px]")
    deepness.add_argument("--step", type=int, help="between windows (half a window) [px]")
    deepness.add_argument(
        "--resolution", type=float, metavar="M", help="of a pixel, if the model knows none [m]"
    )
    _publishing(made)
    made.add_argument("--overwrite", action="store_true", help="replace what is there")
    made.add_argument("-q", "--quiet", action="store_true", help="print nothing")
    made.set_defaults(command=_export)


def _rounding(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--precision",
        choices=["float32", "float16", "int8"],
        default="float32",
        help="number format of the network in an ONNX file (float32)",
    )
    made.add_argument(
        "--tiles",
        type=Path,
        metavar="DATA",
        help="labelled tiles for int8: ranges are measured on one half, its loss on the other",
    )
    made.add_argument(
        "--max-loss",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="percentage points of accuracy that int8 may cost (1)",
    )


def _publishing(made: argparse.ArgumentParser) -> None:
    told = made.add_argument_group("for what says what the model is (--format mlm, hub)")
    told.add_argument(
        "--asset",
        type=Path,
        action="append",
        metavar="FILE",
        help="a further file that the STAC item names, such as the model's ONNX file (mlm)",
    )
    told.add_argument("--licence", help="of the model, such as CC-BY-4.0 (mlm, hub)")
    told.add_argument("--data-licence", help="of imagery and labels (hub)")


@one_writer
def _export(args: argparse.Namespace) -> None:
    from geotl.export.exporter import Rounding
    from geotl.models.pixel_file import is_pixel_model

    for option, forms in _ONLY.items():
        if getattr(args, option) is not None and args.form not in forms:
            raise SettingError(
                f"--{option.replace('_', '-')}: means nothing to --format {args.form}; it belongs "
                f"to --format {' and '.join(forms)}"
            )
    Rounding(args.precision, args.tiles, args.max_loss).check(args.form)
    if is_pixel_model(args.model):
        _check_pixels(args)
        _pixels(args, sayer(quiet=args.quiet))
        return
    if args.member is not None:
        raise SettingError(
            "--member: goes with a model of pixels alone, which consists of members; leave it away"
        )
    writers: dict[str, Callable[[argparse.Namespace, Log], None]] = {
        "safetensors": _bare,
        "deepness": _deepness,
        "mlm": _item,
        "hub": _hub,
    }
    writers.get(args.form, _graph)(args, sayer(quiet=args.quiet))


def _check_pixels(args: argparse.Namespace) -> None:
    """Refuse what a model of pixels cannot be exported with.

    Raises:
        SettingError: a format, an option or a number format of models of tiles.
    """
    if args.form not in PIXEL_FORMATS:
        raise SettingError(
            f"--format {args.form}: not for a model of pixels; give {', '.join(PIXEL_FORMATS)}"
        )
    faults = {
        "--views": args.views is not None,
        "--step": args.step is not None,
        f"--precision {args.precision}": args.precision != "float32",
    }
    for option, given in faults.items():
        if given:
            raise SettingError(
                f"{option}: does not go with a model of pixels, which turns no windows and "
                "computes in float32; leave it away"
            )


def _pixels(args: argparse.Namespace, say: Log) -> None:
    from geotl.export.pixel_deepness import export_pixel_deepness
    from geotl.export.pixel_export import export_pixels
    from geotl.export.qgis_deepness import DeepnessOptions
    from geotl.models.pixel_file import load_pixel_model, member_file

    model = member_file(load_pixel_model(args.model), args.member)
    if args.form == "mlm":
        _write_item(model, args, say)
        return
    if args.form == "deepness":
        options = DeepnessOptions(args.tile_size, resolution_m=args.resolution)
        export_pixel_deepness(model, args.out, options, overwrite=args.overwrite, log=say)
        return
    export_pixels(model, args.form, args.out, overwrite=args.overwrite, log=say)


def _graph(args: argparse.Namespace, say: Log) -> None:
    from geotl.export.exporter import Rounding, export_graph
    from geotl.models.model_file import load

    export_graph(
        load(args.model),
        args.form,
        args.out,
        views=args.views,
        overwrite=args.overwrite,
        rounding=Rounding(args.precision, args.tiles, args.max_loss),
        log=say,
    )


def _bare(args: argparse.Namespace, say: Log) -> None:
    from geotl.export.exporter import export_bare
    from geotl.models.model_file import load

    export_bare(load(args.model), args.out, overwrite=args.overwrite, log=say)


def _deepness(args: argparse.Namespace, say: Log) -> None:
    from geotl.export.qgis_deepness import DeepnessOptions, export_deepness
    from geotl.models.model_file import load

    options = DeepnessOptions(args.tile_size, args.step, args.views, args.resolution)
    export_deepness(load(args.model), args.out, options, overwrite=args.overwrite, log=say)


def _item(args: argparse.Namespace, say: Log) -> None:
    from geotl.models.model_file import load

    _write_item(load(args.model), args, say)


def _write_item(model: ModelFile | PixelModelFile, args: argparse.Namespace, say: Log) -> None:
    from geotl.export.stac_checks import write_item

    write_item(
        model,
        args.out,
        args.asset or [],
        licence=args.licence,
        overwrite=args.overwrite,
        log=say,
    )


def _hub(args: argparse.Namespace, say: Log) -> None:
    from geotl.export.hub_folder import Terms, write_hub
    from geotl.models.model_file import load

    write_hub(
        load(args.model),
        args.out,
        terms=Terms(args.licence, args.data_licence),
        overwrite=args.overwrite,
        log=say,
    )
