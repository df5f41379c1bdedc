"""Loops over pixels compiled to machine code by Numba, which keeps what it compiled on disk.

Numbers are those of NumPy to the bit: nothing is reordered or contracted. Compiled code lets other
threads run beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Decorate a function of arrays and numbers, which is compiled when first called.

    Where no folder can be written for what was compiled, it is compiled again in every process.
    """
    wanted = numba.njit(nogil=True, error_model="numpy")(function)
    with contextlib.suppress(RuntimeError):  # Numba's "no locator available"
        wanted.enable_caching()
    return cast(Function, wanted)
