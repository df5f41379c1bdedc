"""What a command writes has one writer, and never takes the place of what it reads."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from geotl.errors import OutputError
from geotl.io.files import replaceable
from geotl.io.locks import output_lock
from geotl.language import LANGUAGES, SOURCE, VARIABLE, language, stated_language

_OUTPUT = "output"
_IMAGES = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".png", ".jp2", ".j2k", ".npy"})
_READ = _IMAGES | {".safetensors", ".onnx", ".pth", ".pt"}


def add_output(
    command: argparse.ArgumentParser, metavar: str, what: str, *, required: bool = False
) -> None:
    """Add the option that names what a command writes."""
    command.add_argument("-o", "--output", type=Path, required=required, metavar=metavar, help=what)


def add_language(command: argparse.ArgumentParser, what: str = "page and its figures") -> None:
    """Add the option that sets the language of what people read, the page if nothing else."""
    command.add_argument(
        "--lang",
        choices=LANGUAGES,
        help=f"language of the {what} (default: {VARIABLE}, else {SOURCE})",
    )


@contextlib.contextmanager
def speaking(args: argparse.Namespace) -> Iterator[None]:
    """Let a command write its page in the language that --lang or GEOTL_LANG names.

    Raises:
        DataError: GEOTL_LANG names a language that there is not.
    """
    name = (args.lang or stated_language()) if hasattr(args, "lang") else SOURCE
    with language(name):
        yield


def check_outputs(options: Mapping[str, Any]) -> None:
    """Refuse an output that is one of the inputs, or an image or model in a folder of them.

    Args:
        options: of a command, by name.

    Raises:
        OutputError: it is.
    """
    for path in filter(_is_file, _written(options)):
        for given in _inputs(options):
            inside = given.is_dir() and path.resolve().is_relative_to(given.resolve())
            if (given.is_file() and path.samefile(given)) or (inside and _read(path)):
                raise OutputError(
                    f"{path}: is among the inputs ({given}), which are never written to; choose "
                    "another name"
                )


def one_writer(
    command: Callable[[argparse.Namespace], None],
) -> Callable[[argparse.Namespace], None]:
    """Let a command hold the lock of what it writes, if it writes anything.

    The command then raises `OutputError` where another process writes the same output.
    """

    @functools.wraps(command)
    def holding(args: argparse.Namespace) -> None:
        with contextlib.ExitStack() as locks:
            for path in _written(vars(args)):
                locks.enter_context(output_lock(replaceable(path)))
            command(args)

    return holding


def _written(options: Mapping[str, Any]) -> list[Path]:
    return [] if options.get(_OUTPUT) is None else [Path(options[_OUTPUT])]


def _inputs(options: Mapping[str, Any]) -> Iterator[Path]:
    for name, value in options.items():
        if name != _OUTPUT:
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, str | Path) and _is_there(Path(one)):
                    yield Path(one)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a setting of a recipe, too long for a path
        return False


def _is_file(path: Path) -> bool:
    return _is_there(path) and path.is_file()


def _read(path: Path) -> bool:
    return path.suffix.lower() in _READ
