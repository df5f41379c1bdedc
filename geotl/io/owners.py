"""Which process made a temporary file or a lock, and whether it still runs.

A private name holds its owner: `.map.geotl-part-1a2b3c4d-4711-998877-x5f2.tif` was made on the
machine 1a2b3c4d by process 4711, which began 998877 ticks after the machine. So a later process
knows what a dead one left, and leaves alone what another one still writes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["part", "old"]  # what is being made, and what stood there before

_PRIVATE = re.compile(
    r"\.(?P<name>.+)\.geotl-(?P<kind>part|old)-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<begun>\d+)-"
)
_ENDED = "ZX"  # states of a process that was killed and waits for its parent to notice
_CLEANED: set[Path] = set()  # folders that this process has looked through


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        host: eight hexadecimal digits for its machine.
        pid: its number there.
        begun: clock ticks from the start of the machine to its own; 0 where unknown.
    """

    host: str
    pid: int
    begun: int

    def __str__(self) -> str:
        """As it stands in private names."""
        return f"{self.host}-{self.pid}-{self.begun}"

    @property
    def is_dead(self) -> bool:
        """Whether it surely ended; of another machine's processes that is never known."""
        if self.host != this_host():
            return False
        if _stat(self.pid):
            return _begun(self.pid) != self.begun and self.begun != 0
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # of another user
            return False
        return bool(_stat(os.getpid()))  # known to the system, but ended


def this_owner() -> Owner:
    """The running process."""
    return Owner(this_host(), os.getpid(), _begun(os.getpid()))


@functools.cache
def this_host() -> str:
    """Eight hexadecimal digits for this machine, or for this container on it."""
    machine, space = Path("/etc/machine-id"), Path("/proc/self/ns/pid")
    number = machine.read_text(encoding="ascii") if machine.is_file() else ""
    with contextlib.suppress(OSError):  # systems without name spaces
        number += str(space.readlink())
    return hashlib.sha256(f"{platform.node()} {number}".encode()).hexdigest()[:8]


def private_prefix(path: Path, kind: Kind = "part") -> str:
    """How the name of a temporary file or folder beside `path` begins; this process owns it."""
    stem = path.name if kind == "old" else path.stem[:100]
    return f".{stem}.geotl-{kind}-{this_owner()}-"


def is_private(path: Path) -> bool:
    """Whether a path lies in a temporary folder, or is a temporary file itself."""
    return any(_PRIVATE.match(part) for part in path.parts)


def clean_once(folder: Path) -> None:
    """`clean` a folder when this process first writes into it."""
    place = folder.resolve()
    if place not in _CLEANED:
        _CLEANED.add(place)
        clean(place)


def clean(folder: Path) -> None:
    """Take away temporary files and folders whose owners are dead, and nothing else.

    What a dead owner had moved aside to replace it goes back to its place if that is empty.
    """
    with contextlib.suppress(OSError):  # a folder that cannot be read is not ours to clean
        for entry in list(os.scandir(folder)):
            match = _PRIVATE.match(entry.name)
            if match and Owner(match["host"], int(match["pid"]), int(match["begun"])).is_dead:
                place = Path(folder) / match["name"]
                if match["kind"] == "old" and not place.exists():
                    Path(entry).rename(place)
                else:
                    remove(Path(entry))


def remove(path: Path) -> None:
    """Take a file or folder away; one that another process has just removed is no fault."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _stat(pid: int) -> list[str]:
    """Fields of a running process from its state on, as Linux gives them; [] elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    columns = fields.rpartition(")")[2].split()
    return [] if not columns or columns[0] in _ENDED else columns


def _begun(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else 0
