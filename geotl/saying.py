"""Where a command's lines go: to standard output at once, to standard error, or nowhere."""

from __future__ import annotations

import sys
from collections.abc import Callable


def say(line: str) -> None:
    """A line of the result, at once, so that a log can be followed."""
    print(line, flush=True)


def complain(line: str) -> None:
    """A line about what went wrong, beside the result."""
    print(line, file=sys.stderr, flush=True)


def silent(_: str) -> None:
    """Nothing."""


def sayer(*, quiet: bool) -> Callable[[str], None]:
    """What says the lines that a quiet command goes without."""
    return silent if quiet else say
