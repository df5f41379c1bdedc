"""Commands on one recipe, and what it may name: run, augment, recipe, backbones, sensors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from geotl.cli.outputs import add_language, add_output, one_writer
from geotl.cli.verbosity import last_line


def add_run(commands: Any, with_recipe: argparse.ArgumentParser) -> None:
    """Add `geotl run`; `with_recipe` holds recipe and overrides."""
    run = commands.add_parser(
        "run",
        parents=[with_recipe],
        help="train a model, test it, and write model and report",
        description="Run a recipe: geotl run eurosat_rgb data.root=FOLDER split.shots=10",
    )
    add_output(run, "FOLDER", "folder for model and report (default: runs/NAME)")
    add_language(run)
    run.add_argument("--resume", action="store_true", help="continue the run in that folder")
    run.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> None:
    from geotl.experiments.named import check_names
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    check_names(recipe)  # before libraries are imported that take seconds
    if recipe.task == "pixels":
        from geotl.experiments.pixels import run_pixels as run
    else:
        from geotl.experiments.run import run

    out = args.output or Path("runs") / recipe.name
    with last_line(args) as log:
        metrics = run(recipe, out, resume=args.resume, quiet=args.quiet, log=log)
        if args.quiet:
            log(f"{out}: {metrics['headline']}")


def add_augment(commands: Any, with_recipe: argparse.ArgumentParser) -> None:
    """Add `geotl augment`."""
    augment = commands.add_parser(
        "augment",
        parents=[with_recipe],
        help="draw what a recipe's augmentation makes of a training tile",
        description="A training tile and eight random variations: geotl augment RECIPE -o FILE.png",
    )
    add_output(augment, "PNG", "the picture to write", required=True)
    augment.add_argument(
        "--tile", type=int, default=0, metavar="N", help="number of the training tile (default: 0)"
    )
    augment.set_defaults(command=_augment)


@one_writer
def _augment(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    from geotl.experiments.augmentation_preview import preview

    with last_line(args) as log:
        preview(recipe, args.output, tile=args.tile, log=log)


def add_recipe(
    commands: Any, common: argparse.ArgumentParser, with_recipe: argparse.ArgumentParser
) -> None:
    """Add `geotl recipe` and its commands."""
    parser = commands.add_parser(
        "recipe", help="list, show or check recipes, or print their JSON Schema"
    )
    kinds = parser.add_subparsers(required=True, metavar="COMMAND", prog="geotl recipe")
    listing = kinds.add_parser("list", parents=[common], help="list the recipes found by name")
    listing.set_defaults(command=_recipe_list)
    show = kinds.add_parser("show", parents=[with_recipe], help="print every key of a recipe")
    show.set_defaults(command=_recipe_show)
    check = kinds.add_parser("check", parents=[with_recipe], help="list every fault of a recipe")
    check.set_defaults(command=_recipe_check)
    schema = kinds.add_parser("schema", parents=[common], help="print the schema, for editors")
    schema.set_defaults(command=_recipe_schema)


def _recipe_list(_: argparse.Namespace) -> None:
    from geotl.experiments.recipe import titles

    found = titles()
    width = max(map(len, found), default=0)
    for name, title in found.items():
        print(f"{name.ljust(width)}  {title}")


def _recipe_show(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load, written_text

    print(written_text(load(args.recipe, args.overrides)), end="")


def _recipe_check(args: argparse.Namespace) -> None:
    from geotl.experiments.named import check_names
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    check_names(recipe)
    print(f"{recipe.name}: no faults")


def _recipe_schema(_: argparse.Namespace) -> None:
    from geotl.experiments.recipe import schema

    print(json.dumps(schema(), indent=2))


def add_backbones(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl backbones`."""
    backbones = commands.add_parser(
        "backbones", parents=[common], help="list the networks that a recipe can name"
    )
    backbones.add_argument("name", nargs="?", help="one network, in detail")
    backbones.set_defaults(command=_backbones)


def _backbones(args: argparse.Namespace) -> None:
    from geotl.models.registry import describe_backbone

    print(describe_backbone(args.name))


def add_sensors(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `geotl sensors`."""
    sensors = commands.add_parser(
        "sensors", parents=[common], help="list the known sensors and their bands"
    )
    sensors.add_argument("name", nargs="?", help="one sensor, with its bands")
    sensors.set_defaults(command=_sensors)


def _sensors(args: argparse.Namespace) -> None:
    from geotl.imagery.sensors import describe_sensor

    print(describe_sensor(args.name))
