"""One writer for one output: a lock beside it, with the process that holds it.

The system frees the lock when its owner ends, however it ends. The file says who the owner is; on
file systems without locks it decides alone.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from geotl.errors import OutputError
from geotl.io.owners import Owner, clean_once, this_owner

Given = ParamSpec("Given")
Result = TypeVar("Result")
_TRIES, _WAIT_S = 20, 0.05  # for an owner that has not written its name yet


@contextlib.contextmanager
def output_lock(target: Path) -> Iterator[None]:
    """Hold the lock of an output while it is written.

    Raises:
        OutputError: another process writes it, or the lock cannot be made.

    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "map.tif"
    >>> with output_lock(out):
    ...     print([p.name for p in out.parent.iterdir()])
    ['.map.tif.lock']
    >>> list(out.parent.iterdir())
    []
    """
    target = Path(target)
    path = lock_path(target)
    try:
        folders = _made_folders(path.parent)
        handle = _acquired(path, target)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path.parent}: cannot be written into ({error.strerror}); free some space or write "
            "elsewhere"
        ) from error
    try:
        for folder in (path.parent, target):
            clean_once(folder)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
        for folder in folders:
            with contextlib.suppress(OSError):  # it holds the output now
                folder.rmdir()


@contextlib.contextmanager
def awaited_lock(target: Path, wait_s: float = 60.0) -> Iterator[None]:
    """Hold the lock of an output, after waiting while another process holds it.

    Args:
        target: the output.
        wait_s: how long to wait at most.

    Raises:
        OutputError: another process held it all that time, or the lock cannot be made.
    """
    end = time.monotonic() + wait_s
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(output_lock(target))
                break
            except OutputError:
                if time.monotonic() >= end or not lock_path(Path(target)).exists():
                    raise
                time.sleep(_WAIT_S)
        yield


def locked(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorate a function that writes its argument `out`: it holds the lock of that output.

    The function then raises `OutputError` where another process writes the output.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def holding(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with output_lock(Path(signature.bind(*args, **kwargs).arguments["out"])):
            return function(*args, **kwargs)

    return holding


def lock_path(target: Path) -> Path:
    """Where an output's lock lies: beside it, or in it where that folder cannot be written."""
    target = target.resolve()
    inside = target.is_dir() and not os.access(target.parent, os.W_OK)
    return (target if inside else target.parent) / f".{target.name}.lock"


def _made_folders(folder: Path) -> list[Path]:
    """Make a folder; those that were missing, the innermost first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _acquired(path: Path, target: Path) -> int:
    """The open lock file, with this process written into it."""
    for attempt in range(_TRIES):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        free, holder = _seized(handle), _holder(handle)
        if free and (holder is None or holder[0].is_dead) and _is_at(handle, path):
            try:
                _enter(handle)
            except OSError:  # such as a full disk
                path.unlink()
                os.close(handle)
                raise
            return handle
        os.close(handle)
        if holder is not None and not holder[0].is_dead:
            raise OutputError(_refusal(path, target, *holder))
        if attempt < _TRIES - 1:
            time.sleep(_WAIT_S)
    raise OutputError(f"{target}: another process writes it; wait until it ends")


def _enter(handle: int) -> None:
    """Write this process into the open lock file."""
    me = this_owner()
    record = {"host": me.host, "pid": me.pid, "begun": me.begun}
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    text = json.dumps(record | {"machine": platform.node(), "since": since})
    os.ftruncate(handle, 0)
    if os.pwrite(handle, text.encode(), 0) < len(text.encode()):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _refusal(path: Path, target: Path, owner: Owner, machine: str, since: str) -> str:
    here = owner.host == this_owner().host
    remedy = "" if here else f"; if that one has ended, delete {path}"
    return (
        f"{target}: process {owner.pid} on {machine} has been writing it since {since}; wait until "
        f"it ends, or choose another output{remedy}"
    )


def _seized(handle: int) -> bool:
    """Whether the system's lock could be had, or there are none on this file system."""
    try:
        import fcntl  # not on every system
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file still has its name: an owner that ends takes the name away."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: int) -> tuple[Owner, str, str] | None:
    """Who wrote itself into the file, its machine's name and since when; None if no process did."""
    try:
        record = json.loads(os.pread(handle, 4096, 0))
        owner = Owner(str(record["host"]), int(record["pid"]), int(record["begun"]))
        return owner, str(record["machine"]), str(record["since"])
    except (ValueError, KeyError, TypeError):
        return None
