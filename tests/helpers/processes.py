"""Commands in processes of their own, that are killed or run side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from helpers.runs import SMALL
from helpers.tiles import ROOT

WAIT_S = 120


def started(words: list[str], **environment: str) -> subprocess.Popen[str]:
    """`geotl` with these words, its output kept."""
    return python(["-m", "geotl", *words], **environment)


def python(words: list[str], **environment: str) -> subprocess.Popen[str]:
    """Python with these words, from the project's root."""
    own = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(child: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """SIGKILL as soon as something is so; the process must not have ended before."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and child.poll() is None and not ready():
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL


def run_words(tiles: Path, out: Path, *more: str) -> list[str]:
    """The words of a small `geotl run`; options begin with a hyphen."""
    recipe = tiles.parent / "small.yaml"
    recipe.write_text("title: small\n")
    return ["run", str(recipe), f"data.root={tiles}", *SMALL, *more, "--output", str(out), "-q"]


def hidden(folder: Path) -> list[str]:
    """Names below a folder that begin with a dot."""
    return sorted(p.name for p in folder.rglob("*") if p.name.startswith("."))
