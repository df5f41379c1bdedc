"""`geotl study`: what each regulariser does on the user's own labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.console import say


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
    from geotl.studies.study import study
    from geotl.synthetic.study import Generators

    study(
        recipe,
        args.out or Path("runs") / f"{recipe.name}-study",
        only=args.only,
        seeds=args.seeds,
        budget=args.budget,
        resume=args.resume,
        quiet=args.quiet,
        say=say,
        generator=Generators,
    )
