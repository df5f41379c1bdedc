"""A seeded part of the fuzzing of loaders; `make fuzz` goes on for longer."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
from faults.fuzz_targets import Target, targets
from faults.fuzzing import fuzzed

ROUNDS = {"tiff": 150, "npy": 200, "yaml": 150, "manifest": 150, "points": 100, "gpkg": 40}
ROUNDS |= {"geojson": 60, "geojson_table": 150, "safetensors": 60, "pixels": 60, "onnx": 60}
ROUNDS |= {"png": 80, "jpg": 80, "jp2": 80, "class_raster": 100, "class_names": 80, "recipe": 100}
ROUNDS |= {"weights": 60, "pth": 120, "scene": 100, "scene_list": 60, "stac_item": 150}
ROUNDS |= {"stac_items": 150, "fit_record": 60, "checkpoint": 100, "finished": 80}
ROUNDS |= {"run_recipe": 40, "run_metrics": 40, "cache_array": 40, "cache_sums": 40}
ROUNDS |= {"earlier_model": 40, "earlier_pixels": 60}
ROUNDS |= {"sweep_note": 15, "sweep_array": 15}


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


def test_every_kind_of_file_is_damaged(whole: Mapping[str, Target]) -> None:
    assert whole.keys() == ROUNDS.keys()
