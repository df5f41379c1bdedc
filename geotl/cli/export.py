"""The command that exports a model; heavy imports wait inside it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotl.cli.outputs import add_language, add_output, one_writer
from geotl.cli.verbosity import last_line
from geotl.console import Log
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
    "stride_px": ("deepness",),
    "resolution": ("deepness",),
    "asset": ("mlm",),
    "member": ("onnx", "pt2", "deepness"),
    "licence": ("mlm", "hub"),
    "data_licence": ("hub",),
    "lang": ("hub",),
}


def add_export(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl export` to the commands."""
    parser = commands.add_parser(
        "export",
        parents=[common],
        help="write a model as ONNX, for QGIS, as a STAC item, or as a folder to publish",
        description="One file that takes raw pixel values and gives calibrated probabilities: "
        "geotl export MODEL --format onnx -o model.onnx; or a STAC item that describes the model: "
        "--format mlm -o item.json; or a folder to publish: --format hub -o FOLDER. An export is "
        "compared with its model before it is kept.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model file")
    parser.add_argument(
        "--format", choices=FORMATS, required=True, dest="form", help="the format to write"
    )
    add_output(parser, "PATH", "file to write, or folder (hub)", required=True)
    parser.add_argument(
        "--views",
        type=int,
        choices=[1, 2, 4, 8],
        help="number of flips and quarter turns averaged (default: the model's; deepness: 1)",
    )
    parser.add_argument(
        "--member",
        metavar="NAME",
        help="export one member of a model of pixels; geotl inspect lists them (default: all)",
    )
    _rounding(parser)
    deepness = parser.add_argument_group("for the Deepness plugin of QGIS (--format deepness)")
    deepness.add_argument(
        "--tile-size", type=int, metavar="PX", help="tile side in the plugin [px] (default: 512)"
    )
    deepness.add_argument(
        "--stride-px",
        type=int,
        metavar="PX",
        help="distance between windows [px] (default: half a window)",
    )
    deepness.add_argument(
        "--resolution", type=float, metavar="M", help="size of a pixel [m] (default: the model's)"
    )
    _publishing(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.set_defaults(command=_export)


def _rounding(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=["float32", "float16", "int8"],
        default="float32",
        help="number format of the network in an ONNX file (default: float32)",
    )
    parser.add_argument(
        "--tiles",
        type=Path,
        metavar="DATA",
        help="labelled tiles for int8: one half sets the ranges, the other measures the loss "
        "(default: none)",
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="largest loss of accuracy with int8 [percentage points] (default: 1)",
    )


def _publishing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for descriptions of the model (--format mlm, hub)")
    group.add_argument(
        "--asset",
        type=Path,
        action="append",
        metavar="FILE",
        help="a further file that the STAC item lists, such as the model's ONNX file (mlm; "
        "default: none)",
    )
    group.add_argument(
        "--licence", help="licence of the model, such as CC-BY-4.0 (mlm, hub; default: none)"
    )
    group.add_argument("--data-licence", help="licence of imagery and labels (hub; default: none)")
    add_language(parser, "model card (hub)")


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
        _write(_pixels, args)
        return
    if args.member is not None:
        raise SettingError(
            "--member: goes with a model of pixels alone, which consists of members; leave it out"
        )
    writers: dict[str, Callable[[argparse.Namespace, Log], None]] = {
        "safetensors": _bare,
        "deepness": _deepness,
        "mlm": _item,
        "hub": _hub,
    }
    _write(writers.get(args.form, _graph), args)


def _write(writer: Callable[[argparse.Namespace, Log], None], args: argparse.Namespace) -> None:
    """Write the export; a quiet command says what it wrote, and nothing of how it compares."""
    with last_line(args) as log:
        writer(args, log)
        if args.quiet:
            log(f"{args.form.ljust(8)} {args.output}")


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
        "--stride-px": args.stride_px is not None,
        f"--precision {args.precision}": args.precision != "float32",
    }
    for option, given in faults.items():
        if given:
            raise SettingError(
                f"{option}: does not go with a model of pixels, which turns no windows and "
                "computes in float32; leave it out"
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
        export_pixel_deepness(model, args.output, options, overwrite=args.overwrite, log=say)
        return
    export_pixels(model, args.form, args.output, overwrite=args.overwrite, log=say)


def _graph(args: argparse.Namespace, say: Log) -> None:
    from geotl.export.exporter import Rounding, export_graph
    from geotl.models.model_file import load

    export_graph(
        load(args.model),
        args.form,
        args.output,
        views=args.views,
        overwrite=args.overwrite,
        rounding=Rounding(args.precision, args.tiles, args.max_loss),
        log=say,
    )


def _bare(args: argparse.Namespace, say: Log) -> None:
    from geotl.export.exporter import export_bare
    from geotl.models.model_file import load

    export_bare(load(args.model), args.output, overwrite=args.overwrite, log=say)


def _deepness(args: argparse.Namespace, say: Log) -> None:
    from geotl.export.qgis_deepness import DeepnessOptions, export_deepness
    from geotl.models.model_file import load

    options = DeepnessOptions(args.tile_size, args.stride_px, args.views, args.resolution)
    export_deepness(load(args.model), args.output, options, overwrite=args.overwrite, log=say)


def _item(args: argparse.Namespace, say: Log) -> None:
    from geotl.models.model_file import load

    _write_item(load(args.model), args, say)


def _write_item(model: ModelFile | PixelModelFile, args: argparse.Namespace, say: Log) -> None:
    from geotl.export.stac_checks import write_item

    write_item(
        model,
        args.output,
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
        args.output,
        terms=Terms(args.licence, args.data_licence),
        overwrite=args.overwrite,
        log=say,
    )
