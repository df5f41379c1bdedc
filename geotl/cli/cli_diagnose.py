"""`geotl diagnose`: where a recipe stands between under- and overfitting."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.console import say


def add_diagnose(commands: Any, told: argparse.ArgumentParser) -> None:
    """Add the command to a parser's subcommands; `told` holds recipe and overrides."""
    parser = commands.add_parser(
        "diagnose",
        parents=[told],
        help="say whether a recipe under- or overfits, and what to try",
        description="Capacity, learning curves, learning rate and a verdict: "
        "geotl diagnose RECIPE --target 0.9",
    )
    parser.add_argument("--target", type=float, help="accuracy wanted (the recipe's, or none)")
    parser.add_argument("--quick", action="store_true", help="fewer tiles and steps")
    parser.add_argument("--judged", type=int, metavar="N", help="tiles judged (1000; quick: 300)")
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
        say=say,
    )
