"""The commands that take a model and tiles: inspect, predict and evaluate."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geotl.cli.map import add_coverage, add_engine, coverage_of
from geotl.cli.outputs import add_language, add_output, one_writer
from geotl.errors import ModelError, OutputError
from geotl.language import msg

if TYPE_CHECKING:
    from geotl.evaluation.evaluate import Evaluation

_NO_TABLES = frozenset(
    {".gpkg", ".geojson", ".shp", ".tif", ".tiff", ".png", ".jpg", ".html", ".json", ".nc"}
)

_NO_MODELS = _NO_TABLES | {".csv", ".jp2", ".vrt", ".jpeg", ".yaml", ".yml"}  # but maps and labels


def add_inspect(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl inspect` to the commands."""
    inspect = commands.add_parser(
        "inspect", parents=[common], help="show what a model file contains"
    )
    inspect.add_argument("model", type=Path, metavar="MODEL", help="a model file")
    inspect.add_argument("--json", action="store_true", help="print the whole header, as JSON")
    inspect.set_defaults(command=_inspect)


def add_predict(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl predict` to the commands."""
    predict = commands.add_parser(
        "predict",
        parents=[common],
        help="classify tiles with a model",
        description="Classes and probabilities of tiles as a table: "
        "geotl predict MODEL TILES -o predictions.csv",
    )
    predict.add_argument("model", type=Path, metavar="MODEL", help="a model of tiles")
    predict.add_argument(
        "tiles",
        nargs="+",
        type=Path,
        metavar="TILES",
        help="files, folders, folders of band files, or manifests (.csv, .geojson)",
    )
    add_output(predict, "CSV", "the table to write", required=True)
    predict.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    predict.add_argument(
        "--sensor", help="sensor of the tiles: geotl sensors (default: the model's)"
    )
    predict.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="number format of the network; auto: bfloat16 where it is faster (default: auto)",
    )
    add_value_check(predict)
    predict.add_argument(
        "--sets",
        action="store_true",
        help="add a column with the prediction set: the classes that a tile may be of",
    )
    add_coverage(predict)
    add_engine(predict)
    predict.set_defaults(command=_predict)


def add_evaluate(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl evaluate` to the commands."""
    evaluate = commands.add_parser(
        "evaluate",
        parents=[common],
        help="test a model on labelled tiles",
        description="Accuracy, kappa and F1 with intervals, calibration error, a table of the "
        "classes and the confusion matrix: geotl evaluate MODEL DATA -o FOLDER",
    )
    evaluate.add_argument("model", type=Path, metavar="MODEL", help="a model of tiles")
    evaluate.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="folder with a folder of tiles per class, manifest, or torchgeo:NAME:FOLDER",
    )
    evaluate.add_argument(
        "--sensor", help="sensor of the tiles: geotl sensors (default: the model's)"
    )
    add_value_check(evaluate)
    evaluate.add_argument(
        "--include-training",
        action="store_true",
        help="test on the model's own training tiles too, which are left out otherwise",
    )
    add_output(
        evaluate,
        "FOLDER",
        "folder for report.html, evaluation.json, classes.csv and confusion.csv (default: none)",
    )
    add_language(evaluate)
    evaluate.add_argument("--overwrite", action="store_true", help="replace these files")
    add_engine(evaluate)
    evaluate.set_defaults(command=_evaluate)


def add_value_check(command: argparse.ArgumentParser) -> None:
    """Add the option that switches the check of pixel values off."""
    command.add_argument(
        "--skip-value-check",
        action="store_true",
        help="accept pixel values outside the range of the model's training data",
    )


def _inspect(args: argparse.Namespace) -> None:
    from geotl.inference.onnx_file import read_passport
    from geotl.inference.onnx_model import describe_exported, is_exported
    from geotl.models.model_file import describe_file, read_header
    from geotl.models.pixel_file import describe_pixel_file, is_pixel_model

    if args.model.is_file() and args.model.suffix.lower() in _NO_MODELS:
        raise ModelError(
            f"{args.model}: this is no model file; inspect reads models (.safetensors, .onnx)"
        )
    read, describe = (read_header, describe_file)
    if is_exported(args.model):
        read, describe = (read_passport, describe_exported)
    elif is_pixel_model(args.model):
        describe = describe_pixel_file
    print(json.dumps(read(args.model), indent=2) if args.json else describe(args.model))


@one_writer
def _predict(args: argparse.Namespace) -> None:
    from geotl.api import load
    from geotl.evaluation.prediction_sets import coverage_line
    from geotl.imagery.sensors import get_sensor
    from geotl.io.files import check_absent, write_text
    from geotl.reporting.html import predictions_csv

    if args.output.suffix.lower() in _NO_TABLES:
        raise OutputError(
            f"{args.output}: predictions are a table; give a name ending in .csv (geotl map makes "
            "maps of scenes)"
        )
    check_absent(args.output, overwrite=args.overwrite)
    model = load(args.model, engine=args.engine)
    coverage = coverage_of(args)
    limits = model.set_limits(coverage) if args.sets else None
    predictions = model.predict(
        args.tiles,
        sensor=get_sensor(args.sensor) if args.sensor else None,
        precision=args.precision,
        skip_value_check=args.skip_value_check,
        log=args.log,
    )
    paths = [str(path) for path in predictions.paths]
    sets = predictions.in_sets(limits) if limits is not None else None
    table = predictions_csv(paths, None, predictions.probabilities, predictions.classes, sets)
    write_text(args.output, table)
    if limits is not None:
        args.log(coverage_line(model.file.notes, coverage))
    print(f"{predictions}; written to {args.output}")


@one_writer
def _evaluate(args: argparse.Namespace) -> None:
    from geotl.api import load
    from geotl.imagery.sensors import get_sensor
    from geotl.io.files import check_absent
    from geotl.reporting.evaluation_report import FILES, evaluation_lines

    for name in FILES if args.output else ():
        check_absent(args.output / name, overwrite=args.overwrite)
    model = load(args.model, engine=args.engine)
    notes: list[str] = []
    result = model.evaluate(
        args.data,
        sensor=get_sensor(args.sensor) if args.sensor else None,
        skip_value_check=args.skip_value_check,
        include_training=args.include_training,
        log=notes.append,
    )
    first, *others = evaluation_lines(result)
    print(first)
    for line in [*notes, *others]:
        args.log(line)
    if args.output:
        _write_evaluation(args, result, notes)


def _write_evaluation(args: argparse.Namespace, result: Evaluation, notes: list[str]) -> None:
    from geotl.reporting.evaluation_report import write_evaluation

    facts = {
        msg("Model"): str(args.model),
        msg("Test tiles"): msg("{n:,} of {data}", n=int(result.matrix.sum()), data=args.data),
    }
    title = msg("{model} tested on {data}", model=args.model.name, data=args.data.name)
    written = write_evaluation(args.output, result, title=title, facts=facts, notes=notes)
    args.log("\nwritten  " + ", ".join(map(str, written)))
