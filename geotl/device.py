"""Which device computes, and in which number format it gains."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def choose_device() -> torch.device:
    """The best device at hand: CUDA, then Apple's MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def bfloat16_gains(device: torch.device) -> bool:
    """Whether bfloat16 is faster on the device: on a CPU with AMX tiles alone.

    AVX512-BF16 without AMX was measured slower than float32 on these convolutions.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported())
    return False


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The autocast context for a precision; `auto` means bfloat16 where the device gains."""
    wanted = precision == "bfloat16" or (precision == "auto" and bfloat16_gains(device))
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else contextlib.nullcontext()


def describe(device: torch.device, precision: Precision) -> str:
    """One phrase for logs and reports, such as `cpu, 2 threads, bfloat16`."""
    wanted = precision == "bfloat16" or (precision == "auto" and bfloat16_gains(device))
    where = f"cpu, {torch.get_num_threads()} threads" if device.type == "cpu" else str(device)
    return f"{where}, {'bfloat16' if wanted else 'float32'}"
