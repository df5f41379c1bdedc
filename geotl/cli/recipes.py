"""Commands that fit a recipe many times: curve, diagnose, study, generate; and lecture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.cli.outputs import add_language, add_output
from geotl.cli.verbosity import last_line
from geotl.errors import RecipeError


def add_study(commands: Any, with_recipe: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands; `with_recipe` holds recipe and overrides."""
    parser = commands.add_parser(
        "study",
        parents=[with_recipe],
        help="compare regularisers on your own labels",
        description="Every regulariser off and on, compared by folds inside the labels, and a "
        "recommended recipe: geotl study RECIPE --budget 20 -o FOLDER",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="techniques to try, such as dropout weight_decay early_stopping (default: all)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=10,
        metavar="N",
        help="largest number of folds of a trial, each with another seed (default: 10)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="MINUTES",
        help="time for the trials [min] (default: no limit)",
    )
    add_language(parser, "table, its figure and the printed results")
    add_output(parser, "FOLDER", "folder for the results (default: runs/NAME-study)")
    parser.add_argument("--resume", action="store_true", help="continue the study in that folder")
    parser.set_defaults(command=_study)


def _study(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    from geotl.studies.study import StudyExtent, study
    from geotl.synthetic.study import Generators

    with last_line(args) as log:
        study(
            recipe,
            args.output or Path("runs") / f"{recipe.name}-study",
            StudyExtent(args.only, args.seeds, args.budget),
            resume=args.resume,
            quiet=args.quiet,
            log=log,
            generator=Generators,
        )


def add_curve(commands: Any, with_recipe: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands; `with_recipe` holds recipe and overrides."""
    parser = commands.add_parser(
        "curve",
        parents=[with_recipe],
        help="measure accuracy against the number of labels per class",
        description="Train a recipe on more and more labels: geotl curve RECIPE --shots 5 10 20",
    )
    parser.add_argument(
        "--shots",
        type=int,
        nargs="+",
        default=[],
        metavar="K",
        help="numbers of labels per class (default: 2 5 10 20 50 100 200, as far as the labels go)",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="number of repeated splits (default: the recipe's, or 10)",
    )
    add_language(parser)
    add_output(parser, "FOLDER", "folder for table and figure (default: runs/NAME-curve)")
    parser.set_defaults(command=_curve)


def _curve(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    from geotl.studies.learning_curve import curve

    with last_line(args) as log:
        curve(
            recipe,
            args.output or Path("runs") / f"{recipe.name}-curve",
            shots=args.shots,
            draws=args.repeats,
            quiet=args.quiet,
            log=log,
        )


def add_diagnose(commands: Any, with_recipe: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands; `with_recipe` holds recipe and overrides."""
    parser = commands.add_parser(
        "diagnose",
        parents=[with_recipe],
        help="find whether a recipe under- or overfits, and what to try next",
        description="Capacity, learning curves, learning rate and a verdict, or of task pixels "
        "training accuracy, folds by place and a random split: "
        "geotl diagnose RECIPE --target 0.9",
    )
    parser.add_argument(
        "--target",
        type=float,
        metavar="SHARE",
        help="accuracy to reach [fraction] (default: evaluate.target of the recipe, or none)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="use fewer tiles and steps; for task pixels no random split",
    )
    parser.add_argument(
        "--test-tiles",
        type=int,
        metavar="N",
        help="largest number of test tiles (default: 1000; with --quick 300)",
    )
    parser.add_argument("--curve", action="store_true", help="measure the curve of labels too")
    add_language(parser)
    add_output(parser, "FOLDER", "folder for the page (default: runs/NAME-diagnosis)")
    parser.set_defaults(command=_diagnose)


def _diagnose(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    target = [] if args.target is None else [f"evaluate.target={args.target}"]
    recipe = load(args.recipe, [*args.overrides, *target])
    from geotl.studies.diagnosis import diagnose

    out = args.output or Path("runs") / f"{recipe.name}-diagnosis"
    with last_line(args) as log:
        result = diagnose(
            recipe,
            out,
            quick=args.quick,
            test_tiles=args.test_tiles,
            with_curve=args.curve,
            quiet=args.quiet,
            log=log,
        )
        if args.quiet:
            log(f"{out}: {result.verdict.line()}")


def add_generate(commands: Any, with_recipe: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands; `with_recipe` holds recipe and overrides."""
    parser = commands.add_parser(
        "generate",
        parents=[with_recipe],
        help="make synthetic training tiles (GAN), and test whether they help",
        description="A generator is trained on a recipe's training tiles alone; its tiles are "
        "marked, written, and tested: geotl generate RECIPE -o FOLDER",
    )
    add_output(parser, "FOLDER", "folder for the tiles (default: runs/NAME-synthetic)")
    for option, default, what in (
        ("--per-class", 20, "number of tiles of each class"),
        ("--steps", 1000, "training steps of the generator"),
        ("--test-tiles", 1000, "largest number of test tiles"),
    ):
        parser.add_argument(
            option, type=int, default=default, metavar="N", help=f"{what} (default: {default})"
        )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="number of repeated splits that are compared (default: the recipe's)",
    )
    parser.set_defaults(command=_generate)


def _generate(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    from geotl.synthetic.generate import Amounts, generate

    with last_line(args) as log:
        generate(
            recipe,
            args.output or Path("runs") / f"{recipe.name}-synthetic",
            Amounts(args.per_class, args.steps, args.repeats, args.test_tiles),
            quiet=args.quiet,
            log=log,
        )


def add_lecture(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands."""
    parser = commands.add_parser(
        "lecture",
        parents=[common],
        help="demonstrate a technique of the lecture",
        description="Run a demonstration: geotl lecture dropout_masks p=0.5",
    )
    parser.add_argument("name", nargs="?", help="a demonstration (see --list), or its file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="numbers of it to change")
    parser.add_argument(
        "--list", action="store_true", help="list the demonstrations, by part of the lecture"
    )
    parser.add_argument("--all", action="store_true", help="run all of them, and write one page")
    add_output(parser, "FOLDER", "folder for figures and page (default: runs/lecture)")
    parser.set_defaults(output=Path("runs/lecture"))
    parser.set_defaults(command=_lecture)


def _lecture(args: argparse.Namespace) -> None:
    if [bool(args.name), args.list, args.all].count(True) != 1:
        raise RecipeError("lecture: give one of NAME, --list and --all; --list shows the names")
    if args.list:
        _list()
    elif args.all:
        from geotl.lecture.run import show_all

        with last_line(args) as log:
            show_all(args.output, quiet=args.quiet, log=log)
    else:
        from geotl.lecture.recipes import load_lecture

        load_lecture(args.name, args.overrides)  # faults are found before heavy imports
        from geotl.lecture.run import show

        with last_line(args) as log:
            show(args.name, args.output, args.overrides, log=log)


def _list() -> None:
    from geotl.lecture.recipes import PARTS, in_order, load_lecture

    found = [load_lecture(name)[:2] for name in in_order()]
    width = max((len(name) for name, _ in found), default=0)
    for part, title in PARTS.items():
        print(title)
        for name, recipe in found:
            if recipe.part == part:
                print(f"  {name.ljust(width)}  {recipe.title.fr} / {recipe.title.en}")
