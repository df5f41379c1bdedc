"""`geotl generate`: synthetic training tiles from a generator, and whether they help."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.console import say


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
    parser.add_argument("--judged", type=int, default=1000, metavar="N", help="tiles judged (1000)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=_generate)


def _generate(args: argparse.Namespace) -> None:
    from geotl.experiments.recipe import load

    recipe = load(args.recipe, args.overrides)
    from geotl.synthetic.generate import generate

    generate(
        recipe,
        args.out or Path("runs") / f"{recipe.name}-synthetic",
        per_class=args.per_class,
        steps=args.steps,
        draws=args.draws,
        judged=args.judged,
        quiet=args.quiet,
        say=say,
    )
