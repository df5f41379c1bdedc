"""Functions compiled to machine code."""

from __future__ import annotations

import numpy as np

from geotl.compiled import compiled


def test_a_function_gives_what_numpy_gives_to_the_bit() -> None:
    def plain(values: np.ndarray, scale: float, found: np.ndarray) -> None:
        for i in range(len(found)):
            found[i] = (values[i] - 0.1) / scale

    values = np.random.default_rng(0).normal(size=1000)
    found = np.empty(1000, np.float32)
    compiled(plain)(values, 0.3, found)
    np.testing.assert_array_equal(found, ((values - 0.1) / 0.3).astype(np.float32))


def test_it_is_compiled_where_nothing_can_be_kept() -> None:
    """As of a function whose source lies in no file."""
    space: dict[str, object] = {}
    exec("def double(x):\n    return 2 * x\n", space)
    assert compiled(space["double"])(21) == 42  # type: ignore[arg-type]
