"""A geotl command in a process of its own: seconds, seconds of the processor, and peak memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

# ru_maxrss would count the process that starts this one too; VmHWM is the program's own.
PROGRAM = """
import pathlib, resource, sys, time
from geotl.cli.main import main
begun = time.perf_counter()
code, spent = main(sys.argv[1:]), time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_SELF)
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
peak = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
print(spent, used.ru_utime + used.ru_stime, peak)
sys.exit(code)
"""


class Used(NamedTuple):
    """What a command took: seconds on the clock and of the processor, memory in GiB at its peak."""

    seconds: float
    processor_s: float
    peak_gb: float


def used_by(words: Sequence[str]) -> Used:
    """Run a geotl command; its seconds do not count the start of Python.

    Raises:
        SystemExit: the command failed; its own message has been printed.
    """
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], stdout=subprocess.PIPE, text=True, check=False
    )
    if ran.returncode:
        raise SystemExit(f"geotl {words[0]} ended with {ran.returncode}")
    seconds, processor, kilobytes = (float(word) for word in ran.stdout.split()[-3:])
    return Used(seconds, processor, kilobytes / 2**20)
