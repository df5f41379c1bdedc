"""The command line: arguments and exit codes. Heavy imports wait inside the commands."""

from __future__ import annotations

import argparse
import errno
import io
import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any

from geotl._version import __version__
from geotl.cli.accuracy import add_accuracy
from geotl.cli.cache import add_cache
from geotl.cli.completion import add_completion
from geotl.cli.data import add_check, add_chips, add_suggest
from geotl.cli.export import add_export
from geotl.cli.help import MainParser
from geotl.cli.inputs import check_inputs
from geotl.cli.label import add_label
from geotl.cli.map import add_map
from geotl.cli.models import add_evaluate, add_inspect, add_predict
from geotl.cli.old_options import with_new_options
from geotl.cli.outputs import check_outputs, speaking
from geotl.cli.recipes import add_curve, add_diagnose, add_generate, add_lecture, add_study
from geotl.cli.runs import add_augment, add_backbones, add_recipe, add_run, add_sensors
from geotl.cli.verbosity import add_verbosity, printing
from geotl.console import warn_once
from geotl.errors import DataError, GeoTLError, UnfinishedError, nearest

_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ)
_QUIET = ("-q", "-qq", "--quiet")
_UNREAD = 141  # as a shell tells of SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command: 0 when done, 2 for input that cannot be used, 130 when interrupted.

    1 where a part failed and the rest was finished; 141 where what reads the lines reads no more,
    as `head` does.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    _keep_within_cache()
    try:
        return _commanded(argv)
    except BrokenPipeError:
        if not _unread():
            raise
        return _UNREAD


def _keep_within_cache() -> None:
    """Let matplotlib keep its list of fonts in geotl's cache, unless the user names a place."""
    from geotl.io.files import cache_folder

    if "matplotlib" not in sys.modules:
        os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))


def _unread() -> bool:
    """Whether standard output, or else error, has no reader any more; that one is then let go."""
    for stream in (sys.stdout, sys.stderr):
        try:
            print(file=stream, flush=True)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # or Python would tell of it once more at its end
            os.close(nowhere)
            return True
    return False


def _commanded(argv: Sequence[str] | None) -> int:
    try:
        args = _parsed(argv)
    except SystemExit:  # of --help
        print(end="", flush=True)
        raise
    try:
        check_inputs(vars(args))
        check_outputs(vars(args))
        with printing(args), speaking(args):
            args.command(args)
            print(end="", flush=True)
    except UnfinishedError as error:
        return min(1, _refused(error, debug=args.debug))
    except GeoTLError as error:
        return _refused(error, debug=args.debug)
    except OSError as error:
        if error.errno in _NO_PATH and error.filename is not None:
            named = f"{str(error.filename)[:120]!r}: {error.strerror}; check the path"
            return _refused(DataError(named), debug=args.debug)
        if error.errno not in _NOT_WRITTEN:
            raise
        place = error.filename or getattr(args, "output", None) or "output"
        fault = OSError(
            f"{place}: {error.strerror}; free some space or write elsewhere; "
            f"what was finished is intact, and {_again(args)}"
        )
        return _refused(fault, debug=args.debug)
    except KeyboardInterrupt:
        print(f"geotl: interrupted; {_again(args)}", file=sys.stderr)
        return 130
    return 0


def _again(args: argparse.Namespace) -> str:
    """How an interrupted command goes on."""
    how = "--resume" if hasattr(args, "resume") else "the same command"
    return f"{how} goes on from there"


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; key=value may stand after an option too, which argparse alone refuses."""
    parser = command_parser()
    words = _quiet_last(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-") and words[0] not in parser.commands.choices:
        parser.error(f"no command {words[0]!r}; {nearest(words[0], parser.commands.choices)}")
    words, renamed = with_new_options(words)
    for old, new in renamed.items():
        warn_once(f"{old} is now {new}; the old name works until the next release")
    args, rest = parser.parse_known_args(words)
    if rest and not (hasattr(args, "overrides") and all(_is_setting(word) for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    return args


def _quiet_last(words: Sequence[str]) -> list[str]:
    """A command line whose -q stands behind the command, where argparse takes it.

    >>> _quiet_last(["-q", "evaluate", "model.safetensors", "tiles"])
    ['evaluate', 'model.safetensors', 'tiles', '-q']
    """
    quiet = list(itertools.takewhile(_QUIET.__contains__, words))
    rest = list(words[len(quiet) :])
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *quiet, *rest[end:]]


def _is_setting(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def _refused(error: Exception, *, debug: bool) -> int:
    if debug:
        raise error
    try:
        print(f"geotl: {error}", file=sys.stderr, flush=True)
    except OSError as unsaid:
        if unsaid.errno not in _NOT_WRITTEN:  # else a log on the full disk; the exit code says it
            raise
    return 2


def command_parser() -> MainParser:
    """The parser of the command line, with every command; see `help.HEADINGS` for their order."""
    parser = MainParser(
        prog="geotl",
        description="Transfer learning on satellite imagery, with few labels.",
        epilog="geotl COMMAND --help explains a command; geotl --version prints the version.",
    )
    parser.add_argument("--version", action="version", version=f"geotl {__version__}")
    commands = parser.add_commands()
    common = argparse.ArgumentParser(add_help=False)
    add_verbosity(common)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    _add_commands(commands, common)
    add_completion(commands, common, parser)
    with_recipe = argparse.ArgumentParser(add_help=False, parents=[common])
    with_recipe.add_argument("recipe", help="a recipe's name or YAML file (see geotl recipe list)")
    with_recipe.add_argument(
        "overrides", nargs="*", metavar="key=value", help="keys of the recipe to change"
    )
    for add in (add_run, add_curve, add_diagnose, add_study, add_generate, add_augment):
        add(commands, with_recipe)
    add_recipe(commands, common, with_recipe)
    return parser


def _add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands that take no recipe."""
    for add in (
        add_accuracy,
        add_backbones,
        add_cache,
        add_check,
        add_chips,
        add_evaluate,
        add_export,
        add_inspect,
        add_label,
        add_lecture,
        add_map,
        add_predict,
        add_sensors,
        add_suggest,
    ):
        add(commands, common)
