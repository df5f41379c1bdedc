"""Array types, named by the numbers they hold.

Shapes stand in the docstrings of what takes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]  # of any precision
Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]
UInt8s = NDArray[np.uint8]
UInt16s = NDArray[np.uint16]
Bools = NDArray[np.bool_]
Pixels = tuple[NDArray[Any], Bools]  # values and their validity, of one shape
