"""Commands in processes forked from one that has imported geotl, so that a start costs little."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import geotl

WAIT_S = 120.0


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, minus a signal's number; what it wrote; seconds."""

    code: int
    told: str
    seconds: float


def import_all() -> None:
    """Every module of geotl, and so the libraries that these use, without any work."""
    for found in pkgutil.walk_packages(geotl.__path__, "geotl."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def forked(
    work: Callable[[], int],
    environment: Mapping[str, str],
    kill_after_s: float | None = None,
) -> Ended:
    """Do work in a process, and process group, of its own; wait for its end.

    Args:
        work: gives the exit code.
        environment: variables that are set before.
        kill_after_s: SIGKILL to the whole group after so many seconds, if it still runs.
    """
    began = time.monotonic()
    sys.stdout.flush()
    reads, writes = os.pipe()  # no file, which a full disk would cut short
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 1 << 20)
    child = os.fork()
    if child == 0:
        _work(work, writes, environment)
    os.close(writes)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it may have done so, or ended
        os.setpgid(child, child)
    end = began + (WAIT_S if kill_after_s is None else kill_after_s)
    code = None
    while code is None:
        if time.monotonic() >= end:
            os.killpg(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            time.sleep(0.001)
            ended, status = os.waitpid(child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if ended else None
    seconds = time.monotonic() - began
    with os.fdopen(reads, encoding="utf-8", errors="replace") as stream:
        return Ended(code, stream.read(), seconds)


def _work(work: Callable[[], int], writes: int, environment: Mapping[str, str]) -> None:
    """What the child does; it never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        os.environ.update(environment)
        os.dup2(writes, 1)
        os.dup2(writes, 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8")
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
