"""How much a command prints: all of it, with `-q` its result alone, with `-qq` nothing."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from geotl.console import Log, say, sayer


def add_verbosity(parser: argparse.ArgumentParser) -> None:
    """Add `-q`, which may be given twice."""
    parser.add_argument(
        "-q",
        "--quiet",
        action="count",
        default=0,
        help="print the result alone, without log and progress; -qq: print nothing but errors",
    )


@contextlib.contextmanager
def printing(args: argparse.Namespace) -> Iterator[None]:
    """Set `args.log`, which takes the lines of the log, and `args.quiet` to whether there are none.

    Within it nothing reaches standard output if `-q` was given twice.
    """
    times = int(args.quiet)
    args.quiet = times > 0
    args.log = sayer(quiet=args.quiet)
    if times < 2:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def last_line(args: argparse.Namespace) -> Iterator[Log]:
    """The log of a command whose last line is its result, which `-q` leaves."""
    if not args.quiet:
        yield say
        return
    lines: list[str] = []
    yield lines.append
    for line in lines[-1:]:
        say(line)
