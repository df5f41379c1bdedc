"""`geotl curve`: accuracy against labels a class."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.console import say


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
        say=say,
    )
