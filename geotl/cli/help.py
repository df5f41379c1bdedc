"""The parser of all commands, whose help lists them under headings, in colour on a terminal."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Mapping
from typing import Any, cast

HEADINGS: Mapping[str, tuple[str, ...]] = {
    "Data": ("label", "check", "chips", "suggest", "augment", "generate", "sensors"),
    "Train": ("run", "curve", "diagnose", "study", "recipe", "backbones"),
    "Use": ("predict", "evaluate", "map", "sample", "accuracy", "inspect"),
    "Publish": ("export",),
    "Teach": ("lecture",),
    "Manage": ("cache", "completion"),
}


class CommandParser(argparse.ArgumentParser):
    """A parser whose help has colours on a terminal, unless NO_COLOR is set."""

    def __init__(self, **settings: Any) -> None:
        """Take argparse's settings."""
        super().__init__(**{"formatter_class": _formatter} | settings)


class MainParser(CommandParser):
    """The parser of `geotl`; its help shows the commands under headings."""

    def add_commands(self) -> Any:
        """Where commands are added, with `add_parser`."""
        self.commands = self.add_subparsers(
            required=True, metavar="COMMAND", prog="geotl", parser_class=CommandParser
        )
        return self.commands

    def format_help(self) -> str:
        """The help of `geotl`."""
        formatter = self.formatter_class(prog=self.prog)
        formatter.add_text(self.description)
        formatter.add_usage("geotl COMMAND [options]", [], [])
        for heading, names in HEADINGS.items():
            formatter.start_section(heading)
            formatter.add_arguments(map(self._line, names))
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def _line(self, name: str) -> argparse.Action:
        """A command and its one line of help."""
        # argparse has no other way to ask for the help of a command
        shown = {one.dest: one.help for one in self.commands._get_subactions()}
        return argparse.Action([], dest=name, metavar=name, help=shown[name])


def _formatter(prog: str) -> argparse.HelpFormatter:
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    formatter = _coloured() if coloured else argparse.HelpFormatter
    return cast(argparse.HelpFormatter, formatter(prog=prog, max_help_position=30))


@functools.cache
def _coloured() -> Any:
    """The formatter for terminals; its import takes as long as all else of a help."""
    from rich_argparse import RichHelpFormatter

    class Help(RichHelpFormatter):
        help_markup = text_markup = False  # units stand in brackets, as markup does

    Help.group_name_formatter = str
    return Help
