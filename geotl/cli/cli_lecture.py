"""`geotl lecture`: the techniques of the lecture, each shown on the sample tiles."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from geotl.console import say
from geotl.errors import RecipeError


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

        show_all(args.out, quiet=args.quiet, say=say)
    else:
        from geotl.lecture.recipes import load_lecture

        load_lecture(args.name, args.overrides)  # faults are told before heavy imports
        from geotl.lecture.run import show

        show(args.name, args.out, args.overrides, say=say)


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
