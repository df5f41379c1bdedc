"""Stages that run beside each other keep order, stay few items ahead, and lose no error."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from helpers.map_fixtures import made_pixels, patches, write_scene
from helpers.pixel_models import made_pixel_model, small_network

from geotl.cli.main import main
from geotl.inference import pixel_predictor
from geotl.inference.pixel_predictor import PixelPredictor
from geotl.mapping.ahead import AHEAD, ahead

ITEMS = [(0, "a"), (1, None), (2, "bb"), (5, "ccc")]


@pytest.mark.parametrize("threads", [0, 1])
def test_items_keep_their_order_and_none_stays_none(threads: int) -> None:
    pool = ThreadPoolExecutor(1) if threads else None
    assert list(ahead(pool, ITEMS, len)) == [(0, 1), (1, None), (2, 2), (5, 3)]


def test_no_more_items_are_taken_than_may_be_ahead() -> None:
    """A block that waits takes memory."""
    taken: list[int] = []

    def items():
        for n in range(9):
            taken.append(n)
            yield n, n

    with ThreadPoolExecutor(1) as pool:
        stage = ahead(pool, items(), str)
        for n in range(5):
            assert next(stage) == (n, str(n))
            assert len(taken) == n + 1 + AHEAD


def test_an_error_of_a_stage_comes_out_at_its_item() -> None:
    def work(item: int) -> int:
        return 6 // item

    with ThreadPoolExecutor(1) as pool:
        stage = ahead(pool, [(0, 3), (1, 0), (2, 1)], work)
        assert next(stage) == (0, 2)
        with pytest.raises(ZeroDivisionError):
            next(stage)


def probabilities(model: Path, scene: Path, out: Path, threads: int) -> np.ndarray:
    """Of a map [K,H,W] that is computed with so many of torch's threads."""
    before = torch.get_num_threads()
    words = ["--probabilities", "--no-page", "-q", "--precision", "float32", "--block-px", "64"]
    try:
        torch.set_num_threads(threads)
        assert main(["map", str(model), str(scene), "-o", str(out), *words]) == 0
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    with rasterio.open(out.with_name(f"{out.stem}_probabilities.tif")) as layer:
        return layer.read()


def test_networks_run_in_a_thread_of_their_own_and_the_map_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made_pixel_model(tmp_path / "m.safetensors", deep=small_network())
    scene = write_scene(tmp_path / "s.tif", made_pixels(patches(6, 6), 24), nodata=0)
    seen: list[tuple[str, int]] = []
    begin = PixelPredictor.begin

    def noted(*given):
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        return begin(*given)

    monkeypatch.setattr(pixel_predictor, "TILE_PX", 64)
    monkeypatch.setattr(PixelPredictor, "begin", noted)
    alone = probabilities(model, scene, tmp_path / "1.tif", 1)
    assert {name for name, _ in seen} == {threading.main_thread().name}
    seen.clear()
    beside = probabilities(model, scene, tmp_path / "4.tif", 4)
    assert set(seen) == {("network_0", 2)}
    np.testing.assert_allclose(beside, alone, atol=1e-4)
