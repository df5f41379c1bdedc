"""kill -9 and full disks at random moments of every command that writes; then the same is made.

`python tests/faults/kills.py --kills 200 --seed 0` prints a table, `--disks 100` one of disks that
fill up; the suite runs a part. Outputs lie on another file system than the temporary folder and the
cache, where there is one.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rasterio
import torch
from helpers.commands import Command, commands, made_inputs
from helpers.forests import few_trees
from helpers.forked import Ended, forked, import_all
from helpers.full_disk import full_disk

from geotl.cli.main import main as geotl

COMPARED = {".csv", ".safetensors", ".onnx", ".yaml", ".txt"}  # byte for byte; GeoTIFFs by pixels
NAMED_BY_TIME = re.compile(r"events\.out\.tfevents\.\S+|version_\d+")
LOG = "csv"  # folder of Lightning's log, which holds the epochs since a resumption alone


@dataclass
class Count:
    """What the trials of a command gave."""

    trials: int = 0
    broken: int = 0
    tracebacks: int = 0
    different: int = 0
    litter: int = 0
    faults: list[str] = field(default_factory=list)

    def take(self, trials: int, faults: Mapping[str, str]) -> None:
        """Add kills or full disks; faults by column."""
        self.trials += trials
        for column, told in faults.items():
            setattr(self, column, getattr(self, column) + 1)
            self.faults.append(f"{column}: {told}")


def resumed(_: bool) -> tuple[str, ...]:
    """Of commands that go on in a folder."""
    return ("--resume",)


def replaced(there: bool) -> tuple[str, ...]:
    """Of commands that start again."""
    return ("--overwrite",) if there else ()


def repeated(_: bool) -> tuple[str, ...]:
    """Of commands that need no option."""
    return ()


def left_alone(there: bool) -> tuple[str, ...] | None:
    """Of commands whose output appears whole and is never replaced; None where it is there."""
    return None if there else ()


Again = Callable[[bool], tuple[str, ...] | None]
AGAIN: Mapping[str, Again] = {  # what a user adds after a kill, by whether the output is there
    "run, probe": resumed,
    "run, finetune": resumed,
    "run, pixels": resumed,
    "map, tiles": replaced,
    "map, pixels": replaced,
    "export, tiles": replaced,
    "export, pixels": replaced,
    "export, hub": replaced,
    "study": resumed,
    "generate": left_alone,
    "chips": replaced,
    "curve": repeated,
    "diagnose": repeated,
    "predict": replaced,
    "suggest": replaced,
    "sample": replaced,
    "accuracy": replaced,
    "check": repeated,
    "augment": repeated,
    "lecture": repeated,
}


@dataclass(frozen=True)
class Place:
    """Where a command writes: its output, and elsewhere its cache and temporary files."""

    output: Path
    rest: Path

    def empty(self) -> None:
        """Begin with nothing."""
        for folder in (self.output, self.rest):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        (self.rest / "tmp").mkdir()
        gains = self.rest.with_name("first") / "bfloat16.json"  # measured once for a machine
        if gains.exists():
            (self.rest / "cache").mkdir()
            shutil.copy(gains, self.rest / "cache")

    def run(
        self,
        command: Command,
        more: Sequence[str] = (),
        *,
        kill_after_s: float | None = None,
        room: int | None = None,
    ) -> Ended:
        """The command, whole, killed, or with room for so many bytes in a file."""
        words = command.into(self.output, *more)
        own = {"GEOTL_CACHE": str(self.rest / "cache"), "TMPDIR": str(self.rest / "tmp")}
        return forked(lambda: _geotl(words, room), own, kill_after_s)

    def names(self) -> set[str]:
        """Everything that lies there, but for what is named by time or process."""
        found = {
            f"{folder.name}/{path.relative_to(folder)}"
            for folder in (self.output, self.rest / "cache", self.rest / "tmp")
            for path in folder.rglob("*")
        }
        return {name for name in found if not NAMED_BY_TIME.search(name)}

    def content(self) -> dict[str, str]:
        """Digests of the outputs that hold no time."""
        return {
            str(path.relative_to(self.output)): _digest(path, self.output)
            for path in sorted(self.output.rglob("*"))
            if (path.suffix in COMPARED or path.suffix == ".tif") and path.parent.name != LOG
        }


def _geotl(words: list[str], room: int | None) -> int:
    tempfile.tempdir = None  # TMPDIR is another since the parent looked
    if room is None:
        return geotl(words)
    with full_disk(room):
        return geotl(words)


def _digest(path: Path, folder: Path) -> str:
    """Of a GeoTIFF's pixels, else of a file's bytes, without what depends on time and place."""
    if path.suffix == ".tif":
        with rasterio.open(path) as source:
            return hashlib.sha256(source.read().tobytes()).hexdigest()
    content = path.read_bytes().replace(str(folder).encode(), b"")
    if path.name == "study.csv":  # whose last two columns are seconds
        content = b"\n".join(line.rsplit(b",", 2)[0] for line in content.splitlines())
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Undisturbed:
    """What a command gives that nobody disturbs, and the bytes of its largest file."""

    seconds: float
    names: set[str]
    content: dict[str, str]
    largest: int


def undisturbed(command: Command, place: Place) -> Undisturbed:
    """Run it; nothing may go wrong."""
    place.empty()
    ended = place.run(command)
    if ended.code != 0:
        raise SystemExit(f"{command.words[0]}: ends with {ended.code}:\n{ended.told}")
    files = [p for folder in (place.output, place.rest) for p in folder.rglob("*") if p.is_file()]
    largest = max(path.stat().st_size for path in files)
    return Undisturbed(ended.seconds, place.names(), place.content(), largest)


Trial = Callable[[Command, Undisturbed, Place, random.Random, Again], tuple[int, dict[str, str]]]


def filled(
    command: Command, usual: Undisturbed, place: Place, draw: random.Random, then: Again
) -> tuple[int, dict[str, str]]:
    """Let the disk fill up, then give room: full disks (1 or 0), and faults by column."""
    place.empty()
    room = int(10 ** draw.uniform(1, math.log10(usual.largest)))
    ended = place.run(command, room=room)
    if ended.code == 0:
        return 0, _faults(usual, place, ended)
    faults, told = {}, ended.told.strip()
    if ended.code != 2 or sum(line.startswith("geotl: ") for line in told.splitlines()) != 1:
        faults["broken"] = f"full disk ({room} bytes), exit code {ended.code}: {told[-900:]}"
    if "Traceback" in told:
        faults["tracebacks"] = told[-1500:]
    names = {name for name in place.names() if ".sweep" not in name}  # a map goes on from it
    left = {name for name in names if "/." in name or name.startswith("tmp/")}
    if left:
        faults["litter"] = f"full disk ({room} bytes): {', '.join(sorted(left))}"
    again = then((place.output / command.name).exists())
    return 1, _faults(usual, place, place.run(command, again or ())) | faults


def killed(
    command: Command, usual: Undisturbed, place: Place, draw: random.Random, then: Again
) -> tuple[int, dict[str, str]]:
    """Kill a command once or twice, then let it end: kills, and faults by column."""
    place.empty()
    kills, more, shares = 0, (), [draw.uniform(0.01, 0.99)]
    if draw.random() < 0.3:
        shares.append(draw.uniform(0.01, 0.99))
    for share in shares:
        ended = place.run(command, more, kill_after_s=share * usual.seconds)
        if ended.code != -signal.SIGKILL:
            return kills, _faults(usual, place, ended)
        kills += 1
        again = then((place.output / command.name).exists())
        if again is None:
            break
        more = again
    last = Ended(0, "", 0.0) if again is None else place.run(command, more)
    return kills, _faults(usual, place, last, finished=again is None)


def _faults(
    usual: Undisturbed, place: Place, last: Ended, *, finished: bool = False
) -> dict[str, str]:
    """What is wrong after the last run of a command."""
    faults = {}
    if last.code != 0:
        faults["broken"] = f"exit code {last.code}: {last.told.strip()[-400:]}"
    if "Traceback" in last.told:
        faults["tracebacks"] = last.told.strip()[-1500:]
    content = place.content()
    if last.code == 0 and content != usual.content:
        every = content.keys() | usual.content.keys()
        faults["different"] = ", ".join(
            sorted(name for name in every if content.get(name) != usual.content.get(name))
        )
    left = place.names() - usual.names
    if finished:  # nothing was started since that could have taken it away
        left = set()
    if left:
        faults["litter"] = ", ".join(sorted(left))
    return faults


def made_in(places: tuple[Path, Path]) -> None:
    """The inputs of all commands, made in a process of its own, with another cache."""
    inputs = places[1] / "inputs"
    inputs.mkdir()
    own = {"GEOTL_CACHE": str(places[1] / "first"), "MPLCONFIGDIR": str(places[1] / "mpl")}
    os.environ.update(own)
    made = forked(lambda: made_inputs(inputs), own)
    if made.code != 0:
        raise SystemExit(made.told)


def counted(
    places: tuple[Path, Path], trial: Trial, wanted: int, seed: int, only: Sequence[str] = ()
) -> Iterator[tuple[str, float, Count]]:
    """Trials shared out evenly among the commands: name, usual seconds and count of each."""
    place = Place(places[0] / "out", places[1] / "rest")
    known, every = commands(places[1] / "inputs"), list(only or AGAIN)
    for number, name in enumerate(every):
        share = wanted // len(every) + (number < wanted % len(every))
        command, draw, count = known[name], random.Random(f"{seed} {name}"), Count()
        usual = undisturbed(command, place)
        for _ in range(3 * share):  # a few end before they are disturbed
            if count.trials >= share:
                break
            count.take(*trial(command, usual, place, draw, AGAIN[name]))
        yield name, usual.seconds, count


def other_file_system(folder: Path) -> Path | None:
    """A folder on another file system than this one, None if none is found."""
    for place in (Path("/dev/shm"), Path("/var/tmp"), Path.home()):
        usable = place.is_dir() and os.access(place, os.W_OK)
        if usable and place.stat().st_dev != folder.stat().st_dev:
            return place
    return None


def main() -> int:
    """Print the table; 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--disks", type=int, default=0, help="full disks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="commands, as in the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="geotl-kills-") as near:
        os.environ["MPLCONFIGDIR"] = str(Path(near) / "mpl")
        import_all()
        for module, name, value in few_trees():
            setattr(module, name, value)
        other = other_file_system(Path(near))
        if other is None:
            print("skipped: no second file system, so that outputs lie on the first one")
        with tempfile.TemporaryDirectory(prefix="geotl-kills-", dir=other) as far:
            places, code = (Path(far), Path(near)), 0
            made_in(places)
            for trial, wanted in ((killed, args.kills), (filled, args.disks)):
                if wanted:
                    print(trial.__name__)
                    code |= _table(counted(places, trial, wanted, args.seed, args.only))
            return code


def _table(found: Iterator[tuple[str, float, Count]]) -> int:
    columns = ("trials", "broken", "tracebacks", "different", "litter")
    print(f"{'command':16}{'usual [s]':>10}" + "".join(f"{name:>12}" for name in columns))
    total, faults = dict.fromkeys(columns, 0), []
    for name, seconds, count in found:
        values = {column: getattr(count, column) for column in columns}
        total = {column: total[column] + values[column] for column in columns}
        faults += [f"{name}: {fault}" for fault in count.faults]
        row = "".join(f"{value:>12}" for value in values.values())
        print(f"{name:16}{seconds:>10.1f}{row}", flush=True)
    print(f"{'all':26}" + "".join(f"{value:>12}" for value in total.values()))
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
