"""Tiles of features on the disk: their values, their files, and what fits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.labelling import sample_scene

from geotl.errors import DataError, OutputError
from geotl.experiments.pixel_samples import scene_features
from geotl.experiments.sections import PixelsSection
from geotl.imagery.windows import Window
from geotl.labelling import feature_tiles
from geotl.labelling.feature_store import FeatureStore
from geotl.labelling.feature_tiles import TileFeatures, TilePlace, levels_of, tiles_of
from geotl.models.pixel_features import BlockFeatures


def opened(folder: Path, area: Window | None = None, **options) -> FeatureStore:
    scene = sample_scene()
    of = scene_features([scene], scene.sensor, PixelsSection())
    return FeatureStore(scene, TileFeatures(scene, of, area=area), folder, **options)


def fill(store: FeatureStore) -> list[tuple[int, int]]:
    return [*store.fill()]


@pytest.mark.parametrize("each", [1, 2, 4])
def test_a_tile_has_the_full_resolutions_features_of_the_pixels_in_the_middle(
    tmp_path: Path, each: int
) -> None:
    store = opened(tmp_path)
    scene = store.scene
    image, valid = scene.read(Window(0, 0, scene.grid.height, scene.grid.width))
    place = TilePlace(each, 0, 256 // (256 * each)) if each > 1 else TilePlace(1, 2, 1)
    rows, cols = place.within(scene.grid)
    exact = BlockFeatures(store.what.of, image, valid)
    down, across = (np.arange(p.start, p.stop, p.step) for p in (rows, cols))
    where = (part.ravel() for part in np.meshgrid(down, across, indexing="ij"))
    expected = exact.at(*where)
    tile = store.tile(place)
    for block, values in tile.blocks().items():
        np.testing.assert_array_equal(values.astype(np.float16), expected[block].astype("f2"))
    assert (tile.usable == valid.any(axis=0)[rows, cols]).all()
    assert down[0] == place.y * 256 * each + each // 2


def test_what_is_filled_in_the_background_is_what_is_computed_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks smaller than the scene, so that coarse tiles come together from several."""
    asked = opened(tmp_path / "asked")
    monkeypatch.setattr(feature_tiles, "READ_PX", 512)
    monkeypatch.setattr("geotl.labelling.feature_store.READ_PX", 512)
    filled = opened(tmp_path / "filled")
    steps = fill(filled)
    assert steps[-1] == (8, 8)  # four blocks for the coarse level, four for the fine ones
    for each in levels_of(filled.scene.grid):
        for place in tiles_of(filled.scene.grid, each):
            assert (filled.folder / place.name).is_file()
            np.testing.assert_array_equal(filled.tile(place).planes, asked.tile(place).planes)


def test_a_second_session_reads_what_the_first_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path)
    fill(store)
    first = store.tile(TilePlace(4, 0, 0)).planes.copy()
    monkeypatch.setattr(feature_tiles, "FeatureBlock", None)  # nothing can be computed
    again = opened(tmp_path)
    assert fill(again) == [(0, 0)]
    np.testing.assert_array_equal(again.tile(TilePlace(4, 0, 0)).planes, first)


def test_features_of_another_definition_are_taken_away(tmp_path: Path) -> None:
    old = opened(tmp_path)
    old.tile(TilePlace(4, 0, 0))
    (tmp_path / "notes").mkdir()
    scene = sample_scene()
    of = scene_features([scene], scene.sensor, PixelsSection(windows_px=(3,)))
    new = FeatureStore(scene, TileFeatures(scene, of), tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {"notes", new.folder.name}


def test_a_file_that_is_cut_short_is_written_again(tmp_path: Path) -> None:
    store, place = opened(tmp_path), TilePlace(4, 0, 0)
    planes = store.tile(place).planes.copy()
    path = store.folder / place.name
    path.write_bytes(path.read_bytes()[:5000])
    np.testing.assert_array_equal(store.tile(place).planes, planes)
    assert len(path.read_bytes()) > planes.nbytes


def test_levels_that_do_not_fit_are_computed_when_they_are_looked_at(tmp_path: Path) -> None:
    store = opened(tmp_path, limit=60_000_000)
    assert store.plan.kept == (2, 4)
    words = store.notice()
    assert words is not None
    assert "768 x 768 px take 0.2 GB, and there is room for 0.1 GB" in words
    assert words.endswith(
        "give them more of the disk (--cache-gb), or label a part of the scene (--aoi)"
    )
    assert opened(tmp_path / "other").notice() is None
    fill(store)
    tile = store.tile(TilePlace(1, 1, 1))
    assert tile.usable.all()
    assert store.tile(TilePlace(1, 1, 1)) is tile
    assert not (store.folder / "1").exists()


def test_no_room_for_the_coarsest_level_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"1 MB may be taken by features.*--cache-gb.*--aoi"):
        opened(tmp_path, limit=1_000_000)
    disk = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    with pytest.raises(DataError, match=r"1 MB may be taken by features.*make room.*--aoi"):
        opened(tmp_path)


def test_a_smaller_limit_takes_levels_away_and_no_network_its_stages(tmp_path: Path) -> None:
    store = opened(tmp_path)
    fill(store)
    stages = store.folder / "deep-0123456789abcdef"
    stages.mkdir()
    again = opened(tmp_path, limit=60_000_000)
    assert {one.name for one in again.folder.iterdir()} == {"2", "4"}


def test_filling_ends_when_the_store_is_closed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    steps = store.fill()
    assert next(steps) == (0, 2)
    store.close()
    assert [*steps] == []
    assert not [*store.folder.rglob("*.npy")]


def test_a_part_of_the_scene_takes_its_own_tiles_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_tiles, "READ_PX", 512)
    monkeypatch.setattr("geotl.labelling.feature_store.READ_PX", 512)
    area = Window(300, 520, 100, 200)
    whole, store = opened(tmp_path / "whole"), opened(tmp_path / "part", area)
    assert store.plan.needed < whole.plan.needed / 2
    assert fill(store)[-1] == (2, 2)  # of four blocks one, for coarse levels and for fine ones
    names = {one.relative_to(store.folder).as_posix() for one in store.folder.rglob("*.npy")}
    assert names == {"4/0-0.npy", "2/0-1.npy", "1/1-2.npy"}
    coarse, full = (one.tile(TilePlace(4, 0, 0)) for one in (store, whole))
    inside = np.zeros((192, 192), bool)
    inside[75:100, 130:180] = True
    assert (coarse.usable == (inside & full.usable)).all()
    np.testing.assert_array_equal(coarse.planes[:, inside], full.planes[:, inside])
    assert not store.tile(TilePlace(1, 0, 0)).usable.any()
    assert not (store.folder / "1" / "0-0.npy").exists()


def test_on_a_full_disk_tiles_stay_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, values: np.ndarray) -> None:
        raise OutputError(f"{path}: could not be written (No space left on device)")

    store = opened(tmp_path)
    monkeypatch.setattr("geotl.labelling.feature_store.save_array", full)
    tile = store.tile(TilePlace(4, 0, 0))
    assert tile.usable.any()
    assert store.tile(TilePlace(4, 0, 0)) is tile
    with pytest.raises(OutputError, match="No space left"):
        fill(store)
