"""Commands that fit a recipe many times or show one: curve, diagnose, study, generate, lecture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.console import say
from geotl.errors import RecipeError


def add_study(commands: Any, told: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands; `told` holds recipe and overrides."""
    parser = commands.add_parser(
        "study",
        parents=[told],
        help="try every regulariser on your own labels",
        description="On and off in pairs that differ in one key, judged by folds inside the "
        "labels, and a recommended recipe: geotl study RECIPE --budget 20 --out FOLDER",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="techniques to try, such as dropout weight_decay early_stopping (all)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=10,
        metavar="N",
        help="folds, each with a seed of its own, that a trial gets at most (10)",
    )
    parser.add_argument(
        "--budget", type=float, metavar="MINUTES", help="time that trials may take (no bound)"
    )
    parser.add_argument("--out", type=Path, help="folder to write into (runs/NAME-study)")
    parser.add_argument("--resume", action="store_true", help="go on with the study in that folder")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=_study)


def _study(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    from geotl.studies.study import StudyExtent, study
    from geotl.synthetic.study import Generators

    study(
        recipe,
        args.out or Path("runs") / f"{recipe.name}-study",
        StudyExtent(args.only, args.seeds, args.budget),
        resume=args.resume,
        quiet=args.quiet,
        log=say,
        generator=Generators,
    )


def add_curve(commands: Any, told: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands; `told` holds recipe and overrides."""
    parser = commands.add_parser(
        "curve",
        parents=[told],
        help="accuracy against labels a class, over repeated draws",
        description="Fit a recipe to growing numbers of labels: geotl curve RECIPE --shots 5 10 20",
    )
    parser.add_argument(
        "--shots",
        type=int,
        nargs="+",
        default=[],
        metavar="K",
        help="labels a class (2 5 10 20 50 100 200, as far as the tiles go)",
    )
    parser.add_argument("--draws", type=int, metavar="N", help="repetitions (the recipe's, or 10)")
    parser.add_argument("--out", type=Path, help="folder to write into (runs/NAME-curve)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=_curve)


def _curve(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    from geotl.studies.learning_curve import curve

    curve(
        recipe,
        args.out or Path("runs") / f"{recipe.name}-curve",
        shots=args.shots,
        draws=args.draws,
        quiet=args.quiet,
        log=say,
    )


def add_diagnose(commands: Any, told: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands; `told` holds recipe and overrides."""
    parser = commands.add_parser(
        "diagnose",
        parents=[told],
        help="say whether a recipe under- or overfits, and what to try",
        description="Capacity, learning curves, learning rate and a verdict, or of task pixels "
        "training accuracy, folds by place and a random split: "
        "geotl diagnose RECIPE --target 0.9",
    )
    parser.add_argument("--target", type=float, help="accuracy wanted (the recipe's, or none)")
    parser.add_argument(
        "--quick", action="store_true", help="fewer tiles and steps; pixels: no random split"
    )
    parser.add_argument("--judged", type=int, metavar="N", help="test tiles (1000; quick: 300)")
    parser.add_argument("--curve", action="store_true", help="the label-count curve too")
    parser.add_argument("--out", type=Path, help="folder to write into (runs/NAME-diagnosis)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=_diagnose)


def _diagnose(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    target = [] if args.target is None else [f"evaluate.target={args.target}"]
    recipe = load(args.recipe, [*args.overrides, *target])
    from geotl.studies.diagnosis import diagnose

    diagnose(
        recipe,
        args.out or Path("runs") / f"{recipe.name}-diagnosis",
        quick=args.quick,
        judged=args.judged,
        with_curve=args.curve,
        quiet=args.quiet,
        log=say,
    )


def add_generate(commands: Any, told: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands; `told` holds recipe and overrides."""
    parser = commands.add_parser(
        "generate",
        parents=[told],
        help="make synthetic training tiles (GAN), and say whether they help",
        description="A generator learns from a recipe's training tiles alone; what it makes is "
        "marked, written and tried out: geotl generate RECIPE --out FOLDER",
    )
    parser.add_argument("--out", type=Path, help="folder to write into (runs/NAME-synthetic)")
    parser.add_argument("--per-class", type=int, default=20, metavar="N", help="tiles made (20)")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="of training (1000)")
    parser.add_argument("--draws", type=int, metavar="N", help="draws compared (the recipe's)")
    parser.add_argument("--judged", type=int, default=1000, metavar="N", help="test tiles (1000)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=_generate)


def _generate(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    from geotl.synthetic.generate import Amounts, generate

    generate(
        recipe,
        args.out or Path("runs") / f"{recipe.name}-synthetic",
        Amounts(args.per_class, args.steps, args.draws, args.judged),
        quiet=args.quiet,
        log=say,
    )


def add_lecture(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands."""
    parser = commands.add_parser(
        "lecture",
        parents=[common],
        help="show a technique of the lecture, and what holds of it",
        description="Run a demonstration: geotl lecture dropout_masks p=0.5",
    )
    parser.add_argument("name", nargs="?", help="a recipe of the lecture (--list), or its file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="numbers to change")
    parser.add_argument("--list", action="store_true", help="the recipes, by part of the lecture")
    parser.add_argument("--all", action="store_true", help="all of them, gathered on one page")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/lecture"), help="folder to write into (runs/lecture)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=_lecture)


def _lecture(args: argparse.Namespace) -> None:
    if [bool(args.name), args.list, args.all].count(True) != 1:
        raise RecipeError("lecture: give one of NAME, --list and --all; --list tells the names")
    if args.list:
        _list()
    elif args.all:
        from geotl.lecture.run import show_all

        show_all(args.out, quiet=args.quiet, log=say)
    else:
        from geotl.lecture.recipes import load_lecture

        load_lecture(args.name, args.overrides)  # faults are told before heavy imports
        from geotl.lecture.run import show

        show(args.name, args.out, args.overrides, log=say)


def _list() -> None:
    from geotl.experiments.recipe import lectures
    from geotl.lecture.recipes import PARTS, load_lecture

    found = [load_lecture(name)[:2] for name in lectures()]
    width = max((len(name) for name, _ in found), default=0)
    for part, title in PARTS.items():
        print(title)
        for name, recipe in found:
            if recipe.part == part:
                print(f"  {name.ljust(width)}  {recipe.title.fr} / {recipe.title.en}")
