"""Blur, light, missing bands and rectangles: what they change, and that invalid pixels stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import gaussian_filter

from geotl.imagery.sensors import get_sensor, to_reflectance
from geotl.training.augment import augment, blur, draw_dropped, draw_rectangles, relight
from geotl.training.settings import Augmentation, Light

PLAIN = {"flips": False, "quarter_turns": False}
KINDS = [
    {"blur": 1.5},
    {"brightness": 0.3},
    {"contrast": 0.3},
    {"band_dropout": 0.4},
    {"erase": 1.0},
    {"noise": 0.2},
]


def made(bands: int = 4, tiles: int = 8, size: int = 24, planes: int = 1):
    random = torch.Generator().manual_seed(4)
    image = torch.rand((tiles, bands, size, size), generator=random) * 2000 + 1000
    valid = torch.ones((tiles, planes, size, size), dtype=torch.bool)
    return image, valid


def run(image, valid, seed: int = 0, fill: float = -5.0, **more):
    bands = image.shape[1]
    return augment(
        {"image": image, "valid": valid},
        Augmentation(**PLAIN, **more),
        torch.Generator().manual_seed(seed),
        band_sd=torch.ones(bands),
        fill=torch.full((bands,), fill),
        light=Light(),
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: next(iter(k)))
@pytest.mark.parametrize("bands", [1, 3, 13])
@pytest.mark.parametrize("planes", ["one", "each"])
def test_each_spares_invalid_pixels_for_any_bands(kind, bands, planes) -> None:
    image, valid = made(bands, planes=1 if planes == "one" else bands)
    valid[:, :, 4:9, 5:11] = False
    image = torch.where(valid, image, torch.full_like(image, 77.0))
    before = image.clone()
    out = run(image, valid, fill=77.0, **kind)
    assert torch.equal(image, before)
    untouched = ~valid.expand_as(image)
    assert (out["image"][untouched] == 77.0).all()
    assert not out["valid"].expand_as(image)[untouched].any()
    if bands > 1 or "band_dropout" not in kind:
        assert not torch.equal(out["image"], image)
    again, other = run(image, valid, fill=77.0, **kind), run(image, valid, 1, 77.0, **kind)
    assert torch.equal(again["image"], out["image"])
    if bands > 1 or "band_dropout" not in kind:
        assert not torch.equal(other["image"], out["image"])


def test_blur_is_scipys_gaussian_far_from_edges() -> None:
    image, valid = made(2, tiles=3, size=41)
    sigma = torch.tensor([0.0, 1.0, 2.5])
    out = blur(image, valid, sigma)
    assert torch.equal(out[0], image[0])
    for tile in (1, 2):
        wanted = gaussian_filter(
            image[tile].double().numpy(), (0, float(sigma[tile]), float(sigma[tile])), truncate=9
        )
        np.testing.assert_allclose(
            out[tile, :, 12:-12, 12:-12].numpy(), wanted[:, 12:-12, 12:-12], rtol=2e-3
        )


def test_blur_takes_nothing_from_invalid_pixels_or_the_outside() -> None:
    image, valid = torch.full((2, 3, 20, 20), 9.0), torch.ones((2, 1, 20, 20), dtype=torch.bool)
    valid[:, :, 5:9, 5:9] = False
    image[:, :, 5:9, 5:9] = 1e6
    out = blur(image, valid, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(
        out[valid.expand_as(out)], torch.full_like(out, 9.0)[valid.expand_as(out)]
    )


@pytest.mark.parametrize("name", ["sentinel2_l2a", "sentinel2_l2a_n0400", "eurosat_rgb"])
def test_brightness_scales_reflectance_whatever_the_offset(name: str) -> None:
    sensor = get_sensor(name)
    zero = -sensor.offset / sensor.scale
    image, valid = made(2, tiles=3)
    factor = torch.tensor([0.5, 1.0, 1.3])
    out = relight(image, valid, factor, torch.ones(3), zero)
    before, after = (to_reflectance(x.numpy(), sensor) for x in (image, out))
    np.testing.assert_allclose(
        after, before * factor.numpy()[:, None, None, None], rtol=1e-4, atol=1e-6
    )


def test_contrast_keeps_each_bands_mean_over_valid_pixels() -> None:
    image, valid = made(3, tiles=4)
    valid[:, :, :6] = False
    out = relight(image, valid, torch.ones(4), torch.full((4,), 1.7), 0.0)
    seen, was = out[:, :, 6:], image[:, :, 6:]
    torch.testing.assert_close(seen.mean((2, 3)), was.mean((2, 3)))
    torch.testing.assert_close(seen.std((2, 3)), 1.7 * was.std((2, 3)))


def test_bands_are_dropped_with_their_chance_and_never_all() -> None:
    random = torch.Generator().manual_seed(0)
    lost = draw_dropped(4000, 10, 0.3, random)
    assert float(lost.float().mean()) == pytest.approx(0.3, abs=0.01)
    assert not lost.all(dim=1).any()
    assert draw_dropped(100, 3, 1.0, random).sum(dim=1).eq(2).all()


def test_a_dropped_band_standardises_to_zero_and_is_invalid() -> None:
    image, valid = made(5)
    out = run(image, valid, band_dropout=0.5)
    assert out["valid"].shape == image.shape
    lost = ~out["valid"].all(dim=(2, 3))
    assert lost.any()
    assert (out["image"][lost] == -5.0).all()
    assert torch.equal(out["image"][~lost], image[~lost])


def test_rectangles_have_their_chance_and_area() -> None:
    random = torch.Generator().manual_seed(0)
    boxes = draw_rectangles(2000, (32, 32), 0.5, (0.1, 0.3), random)
    share = boxes.float().mean(dim=(1, 2, 3))
    hit = share > 0
    assert float(hit.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert share[hit].min() > 0.07
    assert share[hit].max() < 0.33
    assert float(share[hit].mean()) == pytest.approx(0.2, abs=0.01)


def test_dropout_keeps_the_mean_and_spares_evaluation() -> None:
    layer = torch.nn.Dropout(0.3)
    torch.manual_seed(0)
    ones = torch.ones(1_000_000)
    out = layer.train()(ones)
    assert float((out == 0).float().mean()) == pytest.approx(0.300, abs=0.002)
    torch.testing.assert_close(out[out != 0].unique(), torch.tensor([1 / 0.7]))
    assert float(out.mean()) == pytest.approx(1, abs=0.003)
    assert torch.equal(layer.eval()(ones), ones)


@pytest.mark.parametrize("name", sorted(Augmentation.switches().keys() - {"mixup", "cutmix"}))
def test_every_variation_varies_at_the_value_worth_trying(name: str) -> None:
    """Mixup and cutmix mix whole batches, after this; see `training.batches`."""
    off = {key: switch.off for key, switch in Augmentation.switches().items()}
    attempt = yaml.safe_load(Augmentation.switches()[name].attempt)
    image, valid = made(4)
    batch, sd = {"image": image, "valid": valid}, torch.ones(4)
    after = augment(
        batch,
        Augmentation(**{**off, name: attempt}),
        torch.Generator().manual_seed(0),
        band_sd=sd,
        fill=sd,
        light=Light(),
    )
    assert not torch.equal(after["image"], image)
