"""Files and folders that appear whole or not at all, their checksums, and the cache folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.resources
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from geotl.errors import DataError, OutputError
from geotl.io.owners import Kind, clean_once, is_private, private_prefix, remove

_SHOWN = 120  # characters of a path that is none


def given_path(given: str | Path) -> Path:
    """A path as a user gives it, with ~ for a home folder.

    Raises:
        DataError: no file can have such a path.
    """
    text = str(given)
    try:
        if "\0" in text:
            raise ValueError("a NUL byte in it")
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        shown = text if len(text) < _SHOWN else f"{text[:_SHOWN]}..."
        raise DataError(f"{shown!r}: not the path of a file ({reason}); check it") from error
    return path


def replaceable(path: Path) -> Path:
    """Where a file may be written: a link is followed, not replaced.

    Raises:
        OutputError: something stands there that is neither a file nor a folder, such as a device.
        DataError: no file can have such a path.
    """
    place = given_path(path)
    if place.is_symlink():
        place = place.resolve()
    if place.exists() and not (place.is_file() or place.is_dir()):
        raise OutputError(f"{path}: no regular file, so it is not replaced; name another")
    return place


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if nothing was raised.

    An error leaves whatever stood at `path` before, untouched, and no half-written file. The
    content is on the disk before it takes its name, so that a power cut leaves one or the other.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with whole_file(folder / "a.txt") as part:
    ...     _ = part.write_text("all of it")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    path = replaceable(Path(path))
    part: Path | None = None
    inside = is_private(path)  # of a folder that is brought to the disk as a whole
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not inside:
            clean_once(path.parent)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=private_prefix(path), suffix=path.suffix or ".part"
        )
        os.close(handle)
        part = Path(name)
        yield part
        part.chmod(0o644)  # a writer that renames leaves its own
        if not inside:
            sync(part)
        part.replace(path)
        if not inside:
            sync(path.parent)
    except OutputError:
        raise
    except OSError as error:
        raise unwritten(path, error) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; let it take that place if nothing was raised.

    An error leaves the folder that stood at `path` before, untouched, and no half-written one. Of
    two processes that make the same folder the later one replaces the other's.

    Raises:
        OutputError: the place cannot be written, or the disk is full.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "out"
    >>> with whole_folder(folder) as part:
    ...     _ = (part / "a.txt").write_text("all of it")
    >>> [p.name for p in folder.parent.iterdir()], [p.name for p in folder.iterdir()]
    (['out'], ['a.txt'])
    """
    path = given_path(path)
    try:
        with scratch_folder(path) as part:
            yield part
            part.chmod(0o755)
            if not is_private(path):
                sync_tree(part)
            take_place(part, path)
    except OutputError:
        raise
    except OSError as error:
        raise unwritten(path, error) from error


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which goes at the end.

    A process that is killed leaves it; the next one that writes there takes it away.

    Raises:
        OutputError: the place cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clean_once(path.parent)
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=private_prefix(path)))
    except OSError as error:
        raise unwritten(path, error) from error
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)  # gone already where it took its place


def unwritten(path: Path, error: OSError) -> OutputError:
    """An error of writing `path`, in one line that names the remedy."""
    return OutputError(
        f"{path}: could not be written ({error.strerror or error}); free some space or choose "
        "another folder with -o; what was written before is intact"
    )


def take_place(part: Path, path: Path) -> None:
    """Rename a folder to where another may stand, which is put back if that fails."""
    try:
        part.rename(path)  # an empty folder gives way
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        aside = _aside(path, "old")
        path.rename(aside)
        try:
            part.rename(path)
        except OSError:
            aside.rename(path)
            raise
        remove(aside)
    sync(path.parent)


def put_away(path: Path) -> None:
    """Delete a file or folder that is gone at once: a kill leaves no half of it in its place."""
    aside = _aside(path, "part")
    path.rename(aside)
    remove(aside)


def _aside(path: Path, kind: Kind) -> Path:
    """A free private name beside a path."""
    return path.with_name(f"{private_prefix(path, kind)}{secrets.token_hex(4)}")


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without it for folders
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """`sync` every file and folder below a folder, and the folder itself."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))


def check_absent(path: Path, *, overwrite: bool) -> None:
    """Reject the replacement of a file without permission; for before anything is computed.

    Raises:
        OutputError: it is there already, or is a folder.
    """
    replaceable(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: is there already; choose another name, or give --overwrite")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def json_text(value: Any) -> str:
    r"""A text file's JSON of a value: nan and infinity as null, arrays as lists, an end of line.

    >>> json_text({"sd": float("nan")})
    '{\n  "sd": null\n}\n'
    """
    return json.dumps(jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def jsonable(value: Any) -> Any:
    """A value as JSON knows it; nan and infinity as None, arrays as lists, records as objects.

    Named tuples become lists: `evaluation.evaluate.plain` keeps their names.
    """
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, inf_nan_mode="null", fallback=lambda array: array.tolist())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal, read in blocks of 1 MiB."""
    return sha256_and_mark(path, b"")[0]


def sha256_and_mark(path: Path, mark: bytes) -> tuple[str, bool]:
    """`sha256_of` a file, and whether the mark stands anywhere in it, in the same reading."""
    digest, found, end = hashlib.sha256(), False, b""
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            if mark and not found:
                found = mark in end + block
                end = block[-len(mark) :]
    return digest.hexdigest(), found


def cache_folder() -> Path:
    """Where packed tiles, frozen features and a machine's gains are kept between runs.

    GEOTL_CACHE, else geotl under XDG_CACHE_HOME, else ~/.cache/geotl if it is there, else the
    system's folder for caches (on Linux this is ~/.cache/geotl). It may be deleted at will.
    """
    from platformdirs import user_cache_path

    if given := os.environ.get("GEOTL_CACHE"):
        return Path(given)
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "geotl"
    earlier = Path.home() / ".cache" / "geotl"  # of earlier versions, on every system
    return earlier if earlier.is_dir() else user_cache_path("geotl", appauthor=False)


def asset(package: str, name: str) -> str:
    """A style sheet or script that a package carries, to begin on a line of its own.

    Args:
        package: dotted name of the package.
        name: of the file in its folder `assets`.
    """
    folder = importlib.resources.files(package) / "assets"
    return "\n" + (folder / name).read_text(encoding="utf-8")
