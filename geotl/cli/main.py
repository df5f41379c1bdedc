"""The command line: arguments and exit codes. Heavy imports wait inside the commands."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geotl._version import __version__
from geotl.cli.accuracy import add_accuracy
from geotl.cli.cache import add_cache
from geotl.cli.data import add_check, add_chips, add_suggest
from geotl.cli.export import add_export
from geotl.cli.map import add_coverage, add_engine, add_map, coverage_of
from geotl.cli.outputs import check_outputs, one_writer
from geotl.cli.recipes import add_curve, add_diagnose, add_generate, add_lecture, add_study
from geotl.console import say, sayer
from geotl.errors import DataError, GeoTLError, UnfinishedError

_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ)
_UNREAD = 141  # as a shell tells of SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command: 0 when done, 2 for input that cannot be used, 130 when interrupted.

    1 where a part failed and the rest was finished; 141 where what reads the lines reads no more,
    as `head` does.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    _keep_within_cache()
    try:
        return _commanded(argv)
    except BrokenPipeError:
        if not _unread():
            raise
        return _UNREAD


def _keep_within_cache() -> None:
    """Let matplotlib keep its list of fonts in geotl's cache, unless the user names a place."""
    from geotl.io.files import cache_folder

    if "matplotlib" not in sys.modules:
        os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))


def _unread() -> bool:
    """Whether nobody reads standard output or else error any more; that one is then let go."""
    for stream in (sys.stdout, sys.stderr):
        try:
            print(file=stream, flush=True)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # or Python would tell of it once more at its end
            os.close(nowhere)
            return True
    return False


def _commanded(argv: Sequence[str] | None) -> int:
    try:
        args = _parsed(argv)
    except SystemExit:  # of --help
        print(end="", flush=True)
        raise
    try:
        check_outputs(vars(args))
        args.command(args)
        print(end="", flush=True)
    except UnfinishedError as error:
        return min(1, _refused(error, debug=args.debug))
    except GeoTLError as error:
        return _refused(error, debug=args.debug)
    except OSError as error:
        if error.errno in _NO_PATH and error.filename is not None:
            named = f"{str(error.filename)[:120]!r}: {error.strerror}; check the path"
            return _refused(DataError(named), debug=args.debug)
        if error.errno not in _NOT_WRITTEN:
            raise
        place = error.filename or getattr(args, "out", None) or "output"
        told = OSError(
            f"{place}: {error.strerror}; free some space or write elsewhere; "
            f"what was finished is intact, and {_again(args)}"
        )
        return _refused(told, debug=args.debug)
    except KeyboardInterrupt:
        print(f"geotl: interrupted; {_again(args)}", file=sys.stderr)
        return 130
    return 0


def _again(args: argparse.Namespace) -> str:
    """How a command that was cut short goes on."""
    how = "--resume" if hasattr(args, "resume") else "the same command"
    return f"{how} goes on from there"


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; key=value may stand after an option too, which argparse alone refuses."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and not (hasattr(args, "overrides") and all(_is_setting(word) for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    return args


def _is_setting(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def _refused(error: Exception, *, debug: bool) -> int:
    if debug:
        raise error
    try:
        print(f"geotl: {error}", file=sys.stderr, flush=True)
    except OSError as unsaid:
        if unsaid.errno not in _NOT_WRITTEN:  # else a log on the full disk; the exit code says it
            raise
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geotl", description="Transfer learning on satellite imagery, with few labels."
    )
    parser.add_argument("--version", action="version", version=f"geotl {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    told = argparse.ArgumentParser(add_help=False, parents=[common])
    told.add_argument("recipe", help="a recipe's name or YAML file (geotl recipe list)")
    told.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")

    _recipe_runners(commands, told)
    recipe = commands.add_parser("recipe", help="list, show or check recipes, or print the schema")
    _recipe_commands(recipe, common, told)

    backbones = commands.add_parser("backbones", parents=[common], help="networks at hand")
    backbones.add_argument("name", nargs="?", help="one of them, in detail")
    backbones.set_defaults(command=_backbones)
    sensors = commands.add_parser("sensors", parents=[common], help="sensors that are known")
    sensors.add_argument("name", nargs="?", help="one of them, with its bands")
    sensors.set_defaults(command=_sensors)

    _model_commands(commands, common)
    add_accuracy(commands, common)
    add_cache(commands, common)
    add_check(commands, common)
    add_export(commands, common)
    add_lecture(commands, common)
    add_map(commands, common)
    add_chips(commands, common)
    add_suggest(commands, common)
    return parser


def _model_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """The commands that take a model and tiles."""
    inspect = commands.add_parser("inspect", parents=[common], help="what a model file holds")
    inspect.add_argument("model", type=Path, metavar="MODEL")
    inspect.add_argument("--json", action="store_true", help="the whole header, as JSON")
    inspect.set_defaults(command=_inspect)

    predict = commands.add_parser("predict", parents=[common], help="name tiles with a model")
    predict.add_argument("model", type=Path, metavar="MODEL")
    predict.add_argument(
        "tiles",
        nargs="+",
        type=Path,
        metavar="TILES",
        help="files, folders, folders of band files, or manifests (.csv, .geojson)",
    )
    predict.add_argument("-o", "--output", type=Path, required=True, metavar="CSV")
    predict.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    predict.add_argument("--sensor", help="the tiles' sensor, if not the model's")
    predict.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    predict.add_argument("--force", action="store_true", help="name values the model never saw")
    predict.add_argument(
        "--sets",
        action="store_true",
        help="a column with the classes that a tile may be of, with a stated coverage",
    )
    add_coverage(predict)
    add_engine(predict)
    predict.set_defaults(command=_predict)

    evaluate = commands.add_parser("evaluate", parents=[common], help="judge a model on tiles")
    evaluate.add_argument("model", type=Path, metavar="MODEL")
    evaluate.add_argument(
        "data",
        type=Path,
        metavar="DATA",
        help="folder of class folders, manifest, or torchgeo:NAME:FOLDER",
    )
    evaluate.add_argument("--sensor", help="the tiles' sensor, if not the model's")
    evaluate.add_argument("--force", action="store_true", help="judge on values it never saw")
    evaluate.add_argument(
        "--all", action="store_true", help="judge on tiles that the model learnt from, too"
    )
    add_engine(evaluate)
    evaluate.set_defaults(command=_evaluate)


def _recipe_runners(commands: Any, told: argparse.ArgumentParser) -> None:
    """The commands that take a recipe and settings."""
    run = commands.add_parser(
        "run",
        parents=[told],
        help="train, judge and save a model",
        description="Run a recipe: geotl run eurosat_rgb data.root=FOLDER split.shots=10",
    )
    run.add_argument("--out", type=Path, help="folder to write into (runs/NAME)")
    run.add_argument("--resume", action="store_true", help="go on with the run in that folder")
    run.add_argument("-q", "--quiet", action="store_true", help="no progress")
    run.set_defaults(command=_run)

    add_curve(commands, told)
    add_diagnose(commands, told)
    add_study(commands, told)
    add_generate(commands, told)

    augment = commands.add_parser(
        "augment",
        parents=[told],
        help="show what a recipe's augmentation makes of a tile",
        description="A training tile and eight draws: geotl augment RECIPE --preview FILE.png",
    )
    augment.add_argument("--preview", type=Path, required=True, metavar="PNG", help="the sheet")
    augment.add_argument("--tile", type=int, default=0, help="which training tile, from 0 (0)")
    augment.set_defaults(command=_augment)


def _recipe_commands(
    parser: argparse.ArgumentParser,
    common: argparse.ArgumentParser,
    told: argparse.ArgumentParser,
) -> None:
    kinds = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = kinds.add_parser("list", parents=[common], help="recipes found by name")
    listing.set_defaults(command=_recipe_list)
    show = kinds.add_parser("show", parents=[told], help="every setting of a recipe")
    show.set_defaults(command=_recipe_show)
    check = kinds.add_parser("check", parents=[told], help="tell every fault of a recipe")
    check.set_defaults(command=_recipe_check)
    schema = kinds.add_parser("schema", parents=[common], help="the JSON Schema, for editors")
    schema.set_defaults(command=_recipe_schema)


def _run(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    if recipe.task == "pixels":
        from geotl.experiments.pixels import run_pixels as run
    else:
        from geotl.experiments.run import run

    run(
        recipe,
        args.out or Path("runs") / recipe.name,
        resume=args.resume,
        quiet=args.quiet,
        log=sayer(quiet=args.quiet),
    )


@one_writer
def _augment(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    from geotl.experiments.augmentation_preview import preview

    preview(recipe, args.preview, tile=args.tile, log=say)


def _recipe_list(_: argparse.Namespace) -> None:
    from geotl.experiments.recipe import titles

    found = titles()
    width = max(map(len, found), default=0)
    for name, title in found.items():
        print(f"{name.ljust(width)}  {title}")


def _recipe_show(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import dump, load

    print(dump(load(args.recipe, args.overrides)), end="")


def _recipe_check(args: argparse.Namespace) -> None:
    from geotl.experiments.build import check_known
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    check_known(recipe)
    print(f"{recipe.name}: no faults")


def _recipe_schema(_: argparse.Namespace) -> None:
    from geotl.experiments.recipe import schema

    print(json.dumps(schema(), indent=2))


def _backbones(args: argparse.Namespace) -> None:
    from geotl.models.registry import describe_backbone

    print(describe_backbone(args.name))


def _sensors(args: argparse.Namespace) -> None:
    from geotl.imagery.sensors import describe_sensor

    print(describe_sensor(args.name))


def _inspect(args: argparse.Namespace) -> None:
    from geotl.inference.onnx_file import read_passport
    from geotl.inference.onnx_model import describe_exported, is_exported
    from geotl.models.model_file import describe_file, read_header
    from geotl.models.pixel_file import describe_pixel_file, is_pixel_model

    read, told = (read_header, describe_file)
    if is_exported(args.model):
        read, told = (read_passport, describe_exported)
    elif is_pixel_model(args.model):
        told = describe_pixel_file
    print(json.dumps(read(args.model), indent=2) if args.json else told(args.model))


@one_writer
def _predict(args: argparse.Namespace) -> None:
    from geotl.api import load
    from geotl.imagery.sensors import get_sensor
    from geotl.io.files import check_absent, write_text
    from geotl.reporting.html import predictions_csv

    check_absent(args.output, overwrite=args.overwrite)
    model = load(args.model, engine=args.engine)
    coverage = coverage_of(args)
    limits = model.set_limits(coverage) if args.sets else None
    sensor = get_sensor(args.sensor) if args.sensor else None
    found = model.predict(
        args.tiles, sensor=sensor, precision=args.precision, force=args.force, log=say
    )
    paths = [str(path) for path in found.paths]
    sets = found.in_sets(limits) if limits is not None else None
    table = predictions_csv(paths, None, found.probabilities, found.classes, sets)
    write_text(args.output, table)
    print(f"{found}; written to {args.output}")


def _evaluate(args: argparse.Namespace) -> None:
    from geotl.api import load
    from geotl.imagery.sensors import get_sensor

    model = load(args.model, engine=args.engine)
    sensor = get_sensor(args.sensor) if args.sensor else None
    notes: list[str] = []
    result = model.evaluate(
        args.data, sensor=sensor, force=args.force, include_training=args.all, log=notes.append
    )
    print("\n".join([result.headline, *notes]))
    for name, recall, count in zip(
        result.classes, result.scores.recall, result.scores.support, strict=True
    ):
        told = f"recall {recall:.3f} of {count} tiles" if count else "no tiles"
        print(f"  {name}: {told}")
