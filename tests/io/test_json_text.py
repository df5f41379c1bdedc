"""JSON of results: null for what is not known, and the bytes that json.dumps writes."""

from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geotl.evaluation.evaluate import plain
from geotl.evaluation.metrics import wilson
from geotl.io.files import json_text

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


def by_hand(value: object) -> object:
    """What each report did before for itself."""
    if isinstance(value, dict):
        return {name: by_hand(item) for name, item in value.items()}
    if isinstance(value, list):
        return [by_hand(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@settings(max_examples=200, deadline=None, derandomize=True)
@given(VALUES)
def test_the_bytes_are_those_of_json_dumps(value: object) -> None:
    expected = json.dumps(by_hand(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    assert json_text(value) == expected


def test_arrays_and_numbers_of_numpy_are_plain() -> None:
    held = {"a": np.array([[0.1, np.nan]]), "b": np.float32(2.5), "c": np.int64(3), 4: np.bool_(1)}
    assert json.loads(json_text(held)) == {"a": [[0.1, None]], "b": 2.5, "c": 3, "4": True}


def test_a_name_that_is_not_utf8_is_written() -> None:
    assert json.loads(json_text(["caf\udce9.tif"])) == ["caf\udce9.tif"]


def test_named_tuples_keep_their_names_in_metrics() -> None:
    found = plain({"overall": wilson(1, 1), "sd": [np.nan]})
    assert found["overall"].keys() == {"value", "low", "high"}
    assert found["sd"] == [None]
