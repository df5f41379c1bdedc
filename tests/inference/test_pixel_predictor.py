"""Pixels predicted strip by strip: the same bits as at single pixels, in whatever block."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.map_fixtures import BANDS, CLASSES, LEVEL, made_model, made_pixels, patches
from helpers.pixel_models import forest_member, made_pixel_model
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from geotl.api import load
from geotl.errors import DataError, ModelError
from geotl.inference import pixel_predictor
from geotl.inference.onnx_model import ServedModel, open_predictor
from geotl.inference.pixel_predictor import PixelPredictor
from geotl.inference.sliding_window import Sweep, halo_of
from geotl.inference.window_grid import WindowGrid, blend
from geotl.models.pixel_features import BANDS as OF_BANDS
from geotl.models.pixel_features import WIDE, BlockFeatures, PixelFeatures
from geotl.models.pixel_file import PixelModelFile, is_pixel_model

pytestmark = pytest.mark.usefixtures("one_thread")
HIGH, WIDTH = 61, 83


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> PixelModelFile:
    return open_predictor(made_pixel_model(tmp_path_factory.mktemp("model") / "m.safetensors"))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Raw pixels float32 [4,61,83], NaN where invalid: a corner in all bands, a patch in one."""
    made = made_pixels(patches(3, 4), 24)[:, :HIGH, :WIDTH].astype(np.float32)
    made[:, :9, :14] = np.nan
    made[1, 30:42, 50:60] = np.nan
    return made


def features_of(windows_px: tuple[int, ...]) -> PixelFeatures:
    mean, sd = LEVEL.mean(axis=0), LEVEL.std(axis=0)
    nm = (490.0, 560.0, 665.0, 842.0)
    return PixelFeatures(BANDS, nm, tuple(mean), tuple(sd), 1000.0, windows_px)


@pytest.mark.parametrize("windows_px", [(), (3,), (3, 7, 15, 33), (3, 101)])
@pytest.mark.parametrize("holes", [False, True])
def test_a_strip_holds_the_features_of_its_pixels(image, windows_px, holes):
    """Both ways: by plain slices of the integral images, and pixel by pixel."""
    given = image if holes else np.nan_to_num(image, nan=700.0)
    block = BlockFeatures(features_of(windows_px), given, np.isfinite(given))
    random = np.random.default_rng(1)
    rows, cols = random.integers(20, 40, 60), random.integers(5, 70, 60)
    strip, single = block.strip(slice(20, 40), slice(5, 70)), block.at(rows, cols)
    assert strip.keys() == single.keys() == features_of(windows_px).names.keys()
    for name, told in features_of(windows_px).names.items():
        assert strip[name].dtype == np.float32
        assert strip[name].shape == (len(told), 20, 65)
        np.testing.assert_array_equal(strip[name][:, rows - 20, cols - 5], single[name])


def test_features_are_those_of_a_plain_computation(image):
    """Mean, sd and gradient of valid pixels alone, window by window."""
    of = features_of((3, 15))
    found = BlockFeatures(of, image, np.isfinite(image)).strip(slice(None))
    names = dict(zip(of.names[WIDE], found[WIDE], strict=True))
    z = (image - np.array(of.mean)[:, None, None]) / np.array(of.sd)[:, None, None]
    z = np.rint(z * 4096) / 4096
    for row, col in [(0, 0), (4, 10), (12, 20), (35, 55), (60, 82), (31, 49)]:
        for side in (3, 15):
            half = side // 2
            box = z[1, max(0, row - half) : row + half + 1, max(0, col - half) : col + half + 1]
            seen = box[np.isfinite(box)]
            mean, sd = (seen.mean(), seen.std()) if len(seen) else (0.0, 0.0)
            assert names[f"mean of B03 in {side} px"][row, col] == pytest.approx(mean, abs=1e-5)
            assert names[f"sd of B03 in {side} px"][row, col] == pytest.approx(sd, abs=1e-3)
    assert (found[OF_BANDS][1][30:42, 50:60] == 0).all()


def test_gradients_point_from_half_to_half(image):
    """A step of one standard deviation from left to right, seen in its middle."""
    of = features_of((5,))
    step = np.repeat(np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0])[None], 9, axis=0)
    dn = np.array(of.mean)[:, None, None] + step * np.array(of.sd)[:, None, None]
    found = BlockFeatures(of, dn, np.ones(dn.shape, bool)).strip(slice(None))[WIDE]
    gradient = found[2 * len(BANDS)]
    np.testing.assert_allclose(gradient[4, [0, 1, 3, 4, 6]], [0, 0, 1, 1, 0], atol=1e-3)


@settings(max_examples=12)
@given(
    st.integers(0, HIGH - 1), st.integers(0, WIDTH - 1), st.integers(1, HIGH), st.integers(1, WIDTH)
)
def test_a_pixel_has_the_same_bits_in_every_block(file, image, top, left, high, wide):
    predictor = PixelPredictor(file.model)
    whole = predictor.predict_windows(image, np.arange(HIGH), np.arange(WIDTH), 1).probabilities
    low, right = min(HIGH, top + high), min(WIDTH, left + wide)
    halo = halo_of(predictor, 1)
    above, before = max(0, top - halo), max(0, left - halo)
    part = image[:, above : low + halo, before : right + halo]
    said = predictor.predict_windows(
        part, np.arange(top, low) - above, np.arange(left, right) - before, 1
    )
    np.testing.assert_array_equal(said.probabilities, whole[top:low, left:right])
    assert not said.index.any()


def test_probabilities_are_those_of_the_fusion(file, image, monkeypatch):
    """In strips and batches of any size: as the model gives them of all pixels together."""
    predictor = PixelPredictor(file.model)
    monkeypatch.setattr(pixel_predictor, "STRIP_PX", 200)
    said = predictor.predict_windows(image, np.arange(HIGH), np.arange(WIDTH), 1).probabilities
    block = BlockFeatures(file.model.features, image, np.isfinite(image))
    values = {k: v.reshape(len(v), -1) for k, v in block.strip(slice(None)).items()}
    plain = np.exp(file.model.log_probabilities(values)).reshape(HIGH, WIDTH, -1)
    np.testing.assert_allclose(said, plain, atol=2e-6)
    np.testing.assert_allclose(said.sum(axis=-1), 1, atol=1e-5)
    assert said.shape[-1] == predictor.classes == len(CLASSES)


def test_the_fast_way_gives_the_fusions_probabilities(file, image):
    """Normalised once at the end, the linear members as one in float32."""
    block = BlockFeatures(file.model.features, image, np.isfinite(image))
    values = {k: v.reshape(len(v), -1) for k, v in block.strip(slice(30, 34)).items()}
    plain = np.exp(file.model.log_probabilities(values))
    np.testing.assert_allclose(file.model.probabilities(values).T, plain, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 4, 5, None])
def test_a_forests_arrays_give_what_scikit_learn_gives(depth):
    """Pixels go down several levels at a time; those in a leaf stay there."""
    random = np.random.default_rng(4)
    rows = random.normal(size=(500, 6)).astype(np.float32)
    labels = (rows[:, 0] + random.normal(size=500) > 0) + 2 * (rows[:, 3] > 1)
    values = {OF_BANDS: np.ascontiguousarray(rows[:, :2].T), WIDE: rows[:, 2:].T.copy()}
    told = {"n_estimators": 9, "max_depth": depth, "random_state": 0}
    member = forest_member((OF_BANDS, WIDE), values, labels, **told)
    fitted = RandomForestClassifier(**told).fit(rows, labels)
    plain = np.maximum(fitted.predict_proba(rows), 1e-6)
    found = np.exp(member.log_probabilities(values))
    np.testing.assert_allclose(found, plain / plain.sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(file, image, monkeypatch, threads):
    predictor = PixelPredictor(file.model)
    monkeypatch.setattr(pixel_predictor, "STRIP_PX", 400)
    one = predictor.predict_windows(image, np.arange(HIGH), np.arange(WIDTH), 1).probabilities
    monkeypatch.setattr(pixel_predictor.torch, "get_num_threads", lambda: threads)
    several = predictor.predict_windows(image, np.arange(HIGH), np.arange(WIDTH), 1).probabilities
    np.testing.assert_array_equal(one, several)


def test_what_is_invalid_never_bleeds(file, image):
    """Whatever stands in invalid pixels: mapping fills them with NaN, which is never looked at."""
    predictor = PixelPredictor(file.model)
    assert np.isnan(predictor.fill).all()
    far = 7 + halo_of(predictor, 1)
    where = np.arange(HIGH), np.arange(WIDTH)
    one = predictor.predict_windows(image, *where, 1).probabilities
    other = image.copy()
    other[:, -5:, :] = 9000
    two = predictor.predict_windows(other, *where, 1).probabilities
    np.testing.assert_array_equal(one[: -5 - far], two[: -5 - far])
    assert np.isfinite(one).all()


def test_a_halo_is_stated_by_who_needs_one(file, tmp_path):
    network = load(made_model(tmp_path / "m.safetensors")).network
    assert halo_of(PixelPredictor(file.model), 1) == 7
    assert halo_of(Sweep(network, 32, 1, "exact", None), 24) == 0
    assert halo_of(Sweep(network, 32, 1, "dense", None), 24) == 72
    assert halo_of(object(), 1) == 0


def test_cells_of_single_pixels_are_their_windows():
    """The short way of windows of one pixel gives the values of the long one."""
    random = np.random.default_rng(0)
    values, known = random.integers(0, 65536, (9, 7, 3)), random.random((9, 7)) < 0.7
    grid = WindowGrid(9, 7, 1, 1, 1)
    found = blend(grid, values, known, slice(2, 8), slice(1, 6))
    down, across = grid.row_weights[:, 2:8].toarray(), grid.col_weights[:, 1:6].toarray()
    total = down.T @ known @ across
    part = np.where(known[..., None], values, 0).astype(float)
    with np.errstate(invalid="ignore"):
        plain = (
            np.einsum("ra,rqk,qb->abk", down, part, across)
            / np.where(total > 0, total, np.nan)[..., None]
        )
    np.testing.assert_array_equal(found, plain)


def test_a_pixel_models_file_opens_like_any_other(file, tmp_path):
    assert isinstance(file, PixelModelFile)
    assert not isinstance(file, ServedModel)
    assert is_pixel_model(file.path)
    assert file.contract.tile_px == 1
    assert file.resolution_m == 10.0
    assert file.ground["EPSG:32633"][0][:2] == file.training.places[0].tolist()
    assert not is_pixel_model(made_model(tmp_path / "tiles.safetensors"))
    with pytest.raises(ModelError, match="--engine openvino runs only exported files"):
        open_predictor(file.path, "openvino")


def test_a_pixel_model_names_no_tiles(file):
    model = load(file.path)
    assert model.classes == CLASSES
    with pytest.raises(
        ModelError, match="a model of pixels, which is not supported here; map scenes"
    ):
        model.predict(np.zeros((1, 4, 8, 8)))
    with pytest.raises(ModelError, match="a model of pixels"):
        model.evaluate("nowhere")
    with pytest.raises(ModelError, match="a model of pixels"):
        _ = model.network


def test_windows_have_a_middle():
    with pytest.raises(DataError, match="allowed are odd sides"):
        features_of((4,))
