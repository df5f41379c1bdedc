"""`geotl completion`: a script with which a shell completes commands, options and files."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_DESCRIPTION = (
    "Print a script with which the shell completes commands, options and their values. "
    'bash: add eval "$(geotl completion bash)" to ~/.bashrc. zsh: write it to a file called '
    "_geotl in a folder of $fpath: geotl completion zsh > ~/.zfunc/_geotl"
)


def add_completion(
    commands: Any, common: argparse.ArgumentParser, whole: argparse.ArgumentParser
) -> None:
    """Add the command to a parser's subcommands; `whole` is the parser that is completed."""
    parser = commands.add_parser(
        "completion",
        parents=[common],
        help="print a script that completes commands and options in your shell",
        description=_DESCRIPTION,
    )
    parser.add_argument("shell", choices=["bash", "zsh"], help="the shell: bash or zsh")
    parser.set_defaults(command=functools.partial(_completion, whole))


def _completion(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    import shtab

    for action in _actions(parser):
        if action.type is Path or action.dest in ("recipe", "given"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell=args.shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
