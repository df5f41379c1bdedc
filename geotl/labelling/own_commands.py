"""Commands of geotl that a project runs: as processes of their own, as a user would run them.

An attempt to finish a project runs some of them one after the other, and can be cancelled. How far
it is, it reads off their lines of progress.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geotl
from geotl.console import PROGRESS_VARIABLE
from geotl.errors import DataError, GeoTLError

Command = Sequence[str]
Say = Callable[[str], None]
_PREFIX = "geotl: "  # of the line in which a command says what is wrong
_KEPT = 50  # last lines in which that line is looked for
_END_S = 2.0  # for a command to end by itself
_PROGRESS_S = "0.5"  # between lines of progress
_PROGRESS = re.compile(r"(?P<work>\S.*?)  (?P<done>\d+)/(?P<total>\d+)(?:  .*)?")


class StoppedError(GeoTLError):
    """The work was ended from outside; what is done so far stays."""


class BusyError(GeoTLError, RuntimeError):
    """An attempt that cannot begin, or none that could be cancelled."""


@dataclass(frozen=True)
class Step:
    """A command of an attempt.

    Attributes:
        title: what it does.
        works: where each of its works begins and ends, as shares of the whole step, by the name
            in its lines of progress.
    """

    title: str
    works: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def share(self, line: str) -> float | None:
        """How much of the step a line of progress says is done, 0 to 1; None where it says nothing.

        >>> Step("mapping", {"blocks": (0.0, 0.9)}).share("blocks  12/64  3/s  17 s left")
        0.16875
        """
        match = _PROGRESS.fullmatch(line)
        if match is None or not int(match["total"]):
            return None
        begin, end = self.works.get(match["work"], (0.0, 1.0))
        return begin + (end - begin) * min(1.0, int(match["done"]) / int(match["total"]))


class AttemptProgress:
    """Publishes how far an attempt is: events `finish` with a line, the step and the share done."""

    def __init__(self, publish: Callable[..., None], steps: Sequence[Step]) -> None:
        """Begin before the first step.

        Args:
            publish: takes the events.
            steps: in their order.
        """
        self._publish, self._steps, self._begun = publish, steps, time.monotonic()
        self._number, self._share = 0, 0.0

    def begin(self, number: int) -> None:
        """Go on to a step, the first being 0."""
        self._number, self._share = number, number / len(self._steps)

    def line(self, line: str) -> None:
        """Publish a line of a command, with the seconds so far."""
        step = self._steps[self._number]
        share = step.share(line)
        if share is not None:  # a later work may count again from the start: never back
            self._share = max(self._share, (self._number + share) / len(self._steps))
        self._say(
            f"{line}, {time.monotonic() - self._begun:.0f} s",
            step={"number": self._number + 1, "of": len(self._steps), "title": step.title},
            share=round(self._share, 4),
        )

    def result(self, line: str) -> None:
        """Publish what came of the attempt."""
        self._say(line)

    def _say(self, line: str, **more: Any) -> None:
        self._publish("finish", state="running", line=line, files=[], **more)


class Attempts:
    """At most one attempt at a time to finish a project; any thread may call it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock, self._closed = threading.Lock(), False
        self._commands: OwnCommands | None = None

    def begin(self) -> OwnCommands:
        """What a new attempt runs its commands with.

        Raises:
            BusyError: there is one already, or the server ends.
        """
        with self._lock:
            if self._closed or self._commands is not None:
                raise BusyError("the project is being finished already; wait until it is done")
            self._commands = OwnCommands()
            return self._commands

    def end(self) -> None:
        """Let the next attempt begin."""
        with self._lock:
            self._commands = None

    def cancel(self) -> None:
        """End the command of the attempt; what is done so far stays for the next one.

        Raises:
            BusyError: there is none.
        """
        commands = self._commands
        if commands is None:
            raise BusyError("nothing is being finished; it may just have ended")
        commands.close()

    def close(self) -> None:
        """End the attempt, if there is one, and let none begin."""
        with self._lock:
            self._closed = True
        if self._commands is not None:
            self._commands.close()


class OwnCommands:
    """Runs commands of geotl one after the other, until it is closed."""

    def __init__(self) -> None:
        """Begin with none."""
        self._closed = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the work is to end."""
        return self._closed.is_set()

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
        self._check()
        with started(folder, command) as process:
            self._process = process
            if self.is_closed:
                _send(process, signal.SIGTERM)
            for line in process.stdout or ():
                if line.strip():
                    lines = [*lines, line.strip()][-_KEPT:]
                    say(line.strip())
        self._process = None
        self._check()
        if process.returncode:
            raise DataError(_fault(lines, command, process.returncode))
        return lines

    def close(self) -> None:
        """End the command that runs, and let none begin.

        It has two seconds to end by itself, and none when this is called again.
        """
        again = self.is_closed
        self._closed.set()
        process = self._process
        if process is None or process.poll() is not None:
            return
        _send(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0 if again else _END_S)
        _send(process, signal.SIGKILL)  # what it started, too

    def _check(self) -> None:
        if self.is_closed:
            raise StoppedError("ended before it was finished; finishing again goes on from here")


def _send(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a command and to all processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def started(folder: Path, command: Command) -> subprocess.Popen[str]:
    """Begin a command of geotl in a folder; nothing that lies in the folder is imported."""
    given = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    packages = Path(geotl.__file__).resolve().parent.parent
    path = os.pathsep.join(str(one.absolute()) for one in (packages, *given))  # not of the folder
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "geotl", *command],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", PROGRESS_VARIABLE: _PROGRESS_S},
        process_group=0,  # of its own, which a signal reaches as a whole
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
