"""Commands of geotl that a project runs: as processes of their own, as a user would run them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import geotl
from geotl.errors import DataError, GeoTLError

Command = Sequence[str]
Say = Callable[[str], None]
_PREFIX = "geotl: "  # of the line in which a command says what is wrong
_KEPT = 50  # last lines in which that line is looked for
_END_S = 2.0  # for a command to end by itself


class StoppedError(GeoTLError):
    """The work was ended from outside; what is done so far stays."""


class OwnCommands:
    """Runs commands of geotl one after the other, until it is closed."""

    def __init__(self) -> None:
        """Begin with none."""
        self._closed = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    def run(self, folder: Path, command: Command, say: Say) -> list[str]:
        """Run a command in a folder, and hand its lines on.

        Args:
            folder: in which it runs.
            command: its arguments.
            say: takes the command, and each line that it prints.

        Returns:
            The last lines that it printed.

        Raises:
            DataError: the command failed; its own line.
            StoppedError: it was ended by `close`.
        """
        say(shlex.join(["geotl", *command]))
        lines: list[str] = []
        with started(folder, command) as process:
            self._process = process
            if self._closed.is_set():
                process.terminate()
            for line in process.stdout or ():
                if line.strip():
                    lines = [*lines, line.strip()][-_KEPT:]
                    say(line.strip())
        self._process = None
        if self._closed.is_set():
            raise StoppedError("ended before it was finished; finishing again goes on from here")
        if process.returncode:
            raise DataError(_fault(lines, command, process.returncode))
        return lines

    def close(self) -> None:
        """End the command that runs, and let none begin.

        It has two seconds to end by itself, and none when this is called again.
        """
        again = self._closed.is_set()
        self._closed.set()
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(0 if again else _END_S)
        except subprocess.TimeoutExpired:
            process.kill()


def started(folder: Path, command: Command) -> subprocess.Popen[str]:
    """Begin a command of geotl in a folder; nothing that lies in the folder is imported."""
    given = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    packages = Path(geotl.__file__).resolve().parent.parent
    path = os.pathsep.join(str(one.absolute()) for one in (packages, *given))  # not of the folder
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "geotl", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def _fault(lines: Sequence[str], command: Command, code: int) -> str:
    """What a command that failed says of the reason, in one line."""
    reasons = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
    if reasons:
        return reasons[-1]
    last = lines[-1] if lines else "it printed nothing"
    return f"geotl {command[0]}: ended with code {code} ({last}); run it again in a terminal"
