"""A seeded part of the fuzzing of loaders; `make fuzz` goes on for longer."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
from faults.fuzzing import Target, fuzzed, targets

ROUNDS = {"tiff": 150, "npy": 200, "yaml": 150, "manifest": 150, "points": 100, "gpkg": 40}
ROUNDS |= {"geojson": 60, "geojson_table": 150, "safetensors": 30, "pixels": 60, "onnx": 60}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Target]:
    return targets(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("kind", ROUNDS)
def test_damaged_files_load_or_give_one_line(
    kind: str, whole: Mapping[str, Target], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GDAL's, on damage that it passes over
        assert fuzzed(whole[kind], tmp_path, random.Random(31), ROUNDS[kind]) == []
