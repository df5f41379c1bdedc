"""The device of computations, and the number format that is fastest on it."""

from __future__ import annotations

import contextlib
import functools
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional as F

from geotl.errors import OutputError
from geotl.io.cache_entries import read_checked, write_checked
from geotl.io.files import cache_folder
from geotl.io.locks import awaited_lock
from geotl.language import msg, nmsg

Precision = Literal["auto", "float32", "bfloat16"]
MIN_GAIN = 1.25  # so that a noisy moment does not decide


def choose_device() -> torch.device:
    """The best device at hand: CUDA, then Apple's MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def bfloat16_gains(device: torch.device, threads: int | None = None) -> bool:
    """Whether bfloat16 is faster on the device, a CPU with so many of torch's threads, or with all.

    A CPU with AMX tiles gains always. With AVX512-BF16 alone some gain twofold and others lose, so
    it is measured once per machine and number of threads, and stored in the cache folder.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    if torch.cpu._is_amx_tile_supported():
        return True
    return (
        bool(torch.cpu._is_avx512_bf16_supported())
        and _gain_of(threads or torch.get_num_threads()) >= MIN_GAIN
    )


def settled(
    precision: Precision, device: torch.device, threads: int | None = None
) -> Literal["float32", "bfloat16"]:
    """The number format that a precision stands for: `auto` is bfloat16 where the device gains.

    Args:
        precision: as the user wrote it.
        device: that computes.
        threads: of torch that compute on a CPU; None for all.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if bfloat16_gains(device, threads) else "float32"


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """Data type of tensors for a precision; `auto` means bfloat16 where the device gains."""
    return torch.float32 if settled(precision, device) == "float32" else torch.bfloat16


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The autocast context for a precision; `auto` means bfloat16 where the device gains."""
    if settled(precision, device) == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def describe(device: torch.device, precision: Precision) -> str:
    """One phrase for logs and reports, such as `cpu, 2 threads, bfloat16`."""
    where: str = str(device)
    if device.type == "cpu":
        where = nmsg("cpu, {n} thread", "cpu, {n} threads", torch.get_num_threads())
    return msg("{where}, {precision}", where=where, precision=settled(precision, device))


@functools.cache
def _gain_of(threads: int) -> float:
    """How many times as fast bfloat16 is, as measured on first use on this machine."""
    path = cache_folder() / "bfloat16.json"
    key = f"{platform.node()}, {cpu_name()}, {threads} threads, torch {torch.__version__}"
    gain = _noted(path).get(key)
    if gain is None:
        with contextlib.suppress(OutputError), awaited_lock(path):  # else a cache not to be written
            noted = _noted(path)  # another process may have measured meanwhile
            gain = noted.get(key) or round(_gain_with(threads), 3)
            write_checked(path, noted | {key: gain})
    return float(gain or _gain_with(threads))


def _gain_with(threads: int) -> float:
    """`measured_gain` with a number of torch's threads."""
    with torch_threads(threads):
        return measured_gain()


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute on so many threads, and on as many as before afterwards.

    >>> with torch_threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _noted(path: Path) -> dict[str, float]:
    """Gains measured before; none where they are damaged or of an earlier version."""
    noted = read_checked(path)
    return noted if isinstance(noted, dict) else {}


def cpu_name() -> str:
    """The processor's name where the system gives it, else its architecture."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def measured_gain(rounds: int = 20) -> float:
    """How many times as fast a stack of ResNet's convolutions is in bfloat16, best of rounds."""
    last = torch.channels_last
    kernel = torch.full((64, 64, 3, 3), 1 / 576).contiguous(memory_format=last)  # draws no numbers
    image = torch.ones(32, 64, 16, 16).contiguous(memory_format=last)
    best = {False: float("inf"), True: float("inf")}
    with torch.inference_mode():
        for number in range(2 * rounds + 2):
            half = bool(number % 2)
            begun = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                x = image
                for _ in range(4):
                    x = F.conv2d(x, kernel, padding=1)
            if number >= 2:  # the first of each warms up
                best[half] = min(best[half], time.perf_counter() - begun)
    return best[False] / best[True]
