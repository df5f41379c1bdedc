"""Damaged files by the thousand: a loader gives something, or an error of geotl in one line.

`python tests/faults/fuzzing.py --seconds 300 --seed 1` goes on for so long, `--mutations 20000` for
so many files; the suite runs a part.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.fuzz_targets import Target, targets

from geotl.errors import GeoTLError

BYTES = (0, 1, 0x7F, 0x80, 0xFF)
LONGEST_S = 20.0
TEXT = (".csv", ".json", ".geojson", ".yaml", ".txt")
VALUE = re.compile(rb'"[^"]*"|-?\d+(?:\.\d+)?|\btrue\b|\bnull\b|\[[^\[\]]*\]|\{[^{}]*\}')
OTHERS = (b"null", b"true", b"[]", b"{}", b'"x"', b"-1", b"1e999", b"NaN", b"[[1]]", b"0.5", b'""')


def damaged(target: Target, draw: random.Random) -> bytes:
    """A copy with bits flipped, bytes replaced, a piece cut out, doubled or moved, or cut short.

    In text, half of the copies have a value of another kind instead.
    """
    content, head = target.whole.read_bytes(), target.head
    values = list(VALUE.finditer(content)) if target.whole.suffix in TEXT else []
    if values and draw.random() < 0.5:
        begin, end = draw.choice(values).span()
        return content[:begin] + draw.choice(OTHERS) + content[end:]
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        if not made:
            break
        reach = min(len(made), head) if draw.random() < 0.8 else len(made)
        at, size = draw.randrange(reach), draw.choice((1, 2, 4, 8, 64))
        kind = draw.choice(("flip", "byte", "number", "cut", "end", "double", "splice"))
        if kind == "flip":
            made[at] ^= 1 << draw.randrange(8)
        elif kind == "byte":
            made[at] = draw.choice(BYTES)
        elif kind == "number":
            made[at : at + size] = bytes([draw.choice(BYTES)]) * size
        elif kind == "cut":
            del made[at : at + size]
        elif kind == "end":
            del made[at:]
        elif kind == "double":
            made[at:at] = made[at : at + size]
        else:
            other = draw.randrange(len(made))
            made[at : at + size] = made[other : other + size]
    return bytes(made)


def fault_of(target: Target, content: bytes, folder: Path) -> str | None:
    """What a loader does wrong with a content, None if nothing."""
    path = folder / f"damaged{target.whole.suffix}"
    path.write_bytes(content)
    began = time.perf_counter()
    try:
        target.load(path)
    except GeoTLError as error:
        lines = str(error).splitlines()
        if any(str(path) not in line for line in lines) and target.names_itself:
            return f"a line without the file's name: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    took_s = time.perf_counter() - began
    return f"{took_s:.0f} s" if took_s > LONGEST_S else None


def fuzzed(target: Target, folder: Path, draw: random.Random, rounds: int) -> list[str]:
    """Faults found with so many damaged copies."""
    found = []
    for number in range(rounds):
        fault = fault_of(target, damaged(target, draw), folder)
        if fault:
            found.append(f"round {number}: {fault}")
    return found


def main() -> int:
    """Go on until the time is over; every fault is printed, its file kept, and all are counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="if no mutations are given")
    parser.add_argument("--mutations", type=int, help="how many files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="kinds of files")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    draw, tried, faults = random.Random(args.seed), Counter[str](), Counter[str]()
    seconds, longest = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = {k: t for k, t in targets(folder).items() if not args.only or k in args.only}
        while tried.total() < args.mutations if args.mutations else time.monotonic() < end:
            for kind, target in every.items():
                content, began = damaged(target, draw), time.perf_counter()
                fault = fault_of(target, content, folder)
                took = time.perf_counter() - began
                tried[kind], seconds[kind] = tried[kind] + 1, seconds[kind] + took
                longest[kind] = max(longest[kind], took)
                if fault:
                    faults[kind] += 1
                    kept = Path(tempfile.gettempdir()) / f"fuzz_{kind}_{tried[kind]}"
                    kept = kept.with_suffix(target.whole.suffix)
                    kept.write_bytes(content)
                    print(f"{kind}: {fault[:300]} ({kept})", flush=True)
    print(f"{'kind':16}{'files':>8}{'faults':>8}{'ms a file':>11}{'longest [s]':>13}")
    for kind, count in tried.items():
        each = 1000 * seconds[kind] / count
        print(f"{kind:16}{count:>8}{faults[kind]:>8}{each:>11.1f}{longest[kind]:>13.1f}")
    print(f"{tried.total()} files, {faults.total()} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
