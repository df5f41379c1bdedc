"""Opening models and cached packs, beside an earlier version of geotl.

    git worktree add ../before 02233e2
    python benchmarks/opening_before.py --before ../before MODEL.safetensors...

Both versions open the same files in processes of their own, in turn; each process opens everything
15 times. Printed are the median and the range, over all processes, of the processor's milliseconds
on one thread. 02233e2 is the version before models and packs were checked.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKS = ((400, 64), (1000, 64))
PROGRAM = """
import json, pathlib, sys, time
from geotl.data import tile_array
from geotl.data.tiles import index_folder
from geotl.imagery.sensors import get_sensor
from geotl.models.model_file import load
from geotl.models.pixel_file import is_pixel_model, load_pixel_model

SENSOR, READING = get_sensor("sentinel2_l2a"), tile_array.TileReading(("B02", "B03", "B04", "B08"))

def opened(path):
    kept = place / path.name
    if path.is_dir():
        return lambda: tile_array.pack(index_folder(path), SENSOR, READING, folder=kept)
    return lambda: (load_pixel_model if is_pixel_model(path) else load)(path)

place, times = pathlib.Path(sys.argv[1]), {}
for name in sys.argv[2:]:
    action = opened(pathlib.Path(name))
    action()
    for _ in range(15):
        begun = time.process_time()
        action()
        times.setdefault(name, []).append(1e3 * (time.process_time() - begun))
print(json.dumps(times))
"""


def opening(checkout: Path, place: Path, names: Sequence[str]) -> dict[str, list[float]]:
    """Milliseconds of every opening, by file or folder, in a process of that version."""
    place.mkdir(exist_ok=True)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place), *names],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times: dict[str, list[float]] = json.loads(ran.stdout.splitlines()[-1])
    return times


def main() -> None:
    """Print the table."""
    from pack_opening import made_tiles

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="model files that both versions read")
    parser.add_argument("--before", required=True, type=Path, help="checkout of the version before")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each version")
    given = parser.parse_args()
    versions = {"before": given.before, "now": Path(__file__).resolve().parents[1]}
    with tempfile.TemporaryDirectory() as folder:
        names = [str(Path(model).resolve()) for model in given.models]
        for count, side in PACKS:
            names.append(f"{folder}/{count} x {side} px")
            made_tiles(Path(names[-1]), count, side)
        times: dict[str, dict[str, list[float]]] = {name: {} for name in versions}
        for _ in range(given.rounds):
            for version, checkout in versions.items():
                found = opening(checkout.resolve(), Path(folder) / version, names)
                for name, values in found.items():
                    times[version].setdefault(name, []).extend(values)
    print("| opened | before [ms] | now [ms] |\n|---|---|---|")
    for name in names:
        cells = (times[version][name] for version in versions)
        shown = (f"{statistics.median(t):.1f} ({min(t):.1f} to {max(t):.1f})" for t in cells)
        print(f"| {Path(name).name} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
