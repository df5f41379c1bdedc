"""What augmentation may change, and what it must not."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from geotl.errors import DataError
from geotl.models.classifier import VIEWS, turn_view
from geotl.training.augment import augment, draw_warps
from geotl.training.settings import Augmentation, Light

NONE = {"flips": False, "quarter_turns": False}
SD = {1: torch.tensor([2.0]), 5: torch.tensor([1.0, 2.0, 30.0, 0.5, 1000.0])}


def make_batch(tiles: int = 6, bands: int = 5, size: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    image = torch.randn((tiles, bands, size, size), generator=generator) * 3 + 10
    return {
        "image": image,
        "valid": torch.ones((tiles, 1, size, size), dtype=torch.bool),
        "label": torch.arange(tiles),
    }


def run(batch, settings: Augmentation, seed: int = 0, fill: float = -7.0):
    bands = batch["image"].shape[1]
    return augment(
        batch,
        settings,
        torch.Generator().manual_seed(seed),
        band_sd=SD[bands],
        fill=torch.full((bands,), fill),
        light=Light(),
    )


def test_four_quarter_turns_give_every_bit_back():
    image = make_batch()["image"]
    turned = image
    for _ in range(4):
        turned = turn_view(turned, 1)
    assert torch.equal(turned, image)


def test_the_eight_views_differ_and_move_pixels_only():
    image = make_batch(tiles=1)["image"]
    views = [turn_view(image, view) for view in range(VIEWS)]
    assert len({v.numpy().tobytes() for v in views}) == VIEWS
    for view in views:
        assert torch.equal(view.flatten().sort().values, image.flatten().sort().values)


@pytest.mark.parametrize("view", [-1, 8])
def test_a_view_that_does_not_exist_is_refused(view):
    with pytest.raises(DataError, match="0 to 7"):
        turn_view(torch.zeros(1, 2, 2), view)


def test_everything_off_hands_the_batch_back():
    batch = make_batch()
    out = run(batch, Augmentation(**NONE))
    assert out["image"] is batch["image"]
    assert out["valid"] is batch["valid"]


@pytest.mark.parametrize(
    ("flips", "turns", "expected"),
    [(True, False, {0, 2, 4, 6}), (False, True, {0, 1, 2, 3}), (True, True, set(range(8)))],
)
def test_flips_and_turns_reach_exactly_their_views(flips, turns, expected):
    batch = make_batch(tiles=80, bands=1, size=4)
    batch["valid"] = batch["image"] > 9
    out = run(batch, Augmentation(flips=flips, quarter_turns=turns))
    seen = set()
    for row in range(80):
        view = next(
            v for v in range(8) if torch.equal(turn_view(batch["image"][row], v), out["image"][row])
        )
        assert torch.equal(turn_view(batch["valid"][row], view), out["valid"][row])
        seen.add(view)
    assert seen == expected


def test_quarter_turns_need_square_tiles():
    batch = make_batch()
    batch = {k: v[..., :20] if v.ndim == 4 else v for k, v in batch.items()}
    with pytest.raises(DataError, match="quarter_turns"):
        run(batch, Augmentation(flips=False, quarter_turns=True))


def test_free_rotation_marks_and_fills_the_corners_it_invents():
    batch = make_batch(tiles=16)
    batch["image"] = torch.full_like(batch["image"], 5.0)
    out = run(batch, Augmentation(**NONE, rotate_deg=45))
    invented = ~out["valid"].expand_as(out["image"])
    assert invented.any()
    assert (out["image"][invented] == -7).all()
    assert torch.allclose(out["image"][~invented], torch.tensor(5.0), atol=1e-5)
    corners = out["valid"][:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert not corners[out["valid"].flatten(1).float().mean(1) < 0.95].any()
    assert out["valid"][:, 0, 16, 16].all()


def test_the_warp_is_the_rotation_it_says_it_is():
    size = 33
    settings = Augmentation(**NONE, rotate_deg=60)
    generator = torch.Generator().manual_seed(3)
    torch.randint(1, (1,), generator=generator)  # the view is drawn first
    matrices = draw_warps(settings, 1, (size, size), generator)
    assert matrices[0, 0, 1].abs() > 0.2
    image = torch.zeros((1, 1, size, size))
    image[0, 0, 10:13, 19:22] = 1.0  # around (x, y) = (20, 11)
    valid = torch.ones((1, 1, size, size), dtype=torch.bool)
    out = run({"image": image, "valid": valid}, settings, seed=3)["image"].clamp(min=0)[0, 0]
    x, y = (matrices[0] @ torch.tensor([20.0, 11.0, 1.0], dtype=torch.float64)).tolist()
    columns = torch.arange(size, dtype=torch.float32)
    assert (out.sum(0) * columns).sum() / out.sum() == pytest.approx(x, abs=0.1)
    assert (out.sum(1) * columns).sum() / out.sum() == pytest.approx(y, abs=0.1)
    middle = torch.tensor([16.0, 16.0, 1.0], dtype=torch.float64)
    assert torch.allclose(matrices[0] @ middle, middle[:2])


@pytest.mark.parametrize(
    "settings",
    [
        Augmentation(rotate_deg=180),
        Augmentation(scale=(0.4, 0.7)),
        Augmentation(rotate_deg=45, scale=(0.5, 2.0), crop=0.5),
        Augmentation(crop=0.1),
    ],
)
@pytest.mark.parametrize("size", [16, 64])
def test_size_is_constant_and_four_fifths_stay_valid(settings, size):
    batch = make_batch(tiles=40, bands=1, size=size)
    out = run(batch, settings)
    assert out["image"].shape == batch["image"].shape
    assert out["valid"].shape == batch["valid"].shape
    assert out["valid"].flatten(1).float().mean(1).min() >= 0.8
    assert not torch.equal(out["image"], batch["image"])


def test_too_small_a_scale_is_raised_and_not_given_up():
    batch = make_batch(tiles=30, bands=1, size=64)
    out = run(batch, Augmentation(**NONE, scale=(0.4, 0.7)))
    share = out["valid"].flatten(1).float().mean(1)
    assert ((share >= 0.8) & (share < 0.88)).all()


def test_a_scale_that_fits_is_left_as_drawn():
    settings = Augmentation(scale=(1.5, 1.5))
    matrices = draw_warps(settings, 4, (32, 32), torch.Generator().manual_seed(0))
    assert torch.allclose(matrices[:, 0, 0], torch.tensor(1.5, dtype=torch.float64))
    assert len({m.numpy().tobytes() for m in matrices}) == 4  # each about its own centre


def test_a_crop_alone_invents_nothing():
    batch = make_batch(tiles=40, bands=1)
    out = run(batch, Augmentation(**NONE, crop=0.3))
    assert out["valid"].all()
    assert out["image"].min() >= batch["image"].min() - 1e-4


def test_a_crop_into_a_hole_is_not_made():
    batch = make_batch(tiles=60, bands=1)
    batch["valid"][..., :16] = False
    out = run(batch, Augmentation(**NONE, crop=0.1))
    share = out["valid"].flatten(1).float().mean(1)
    assert share.min() >= 0.8 * 0.5
    unmoved = [torch.equal(a, b) for a, b in zip(out["image"], batch["image"], strict=True)]
    assert 0 < sum(unmoved) < 60


def test_invalid_pixels_do_not_bleed_into_valid_ones():
    batch = make_batch(tiles=12)
    batch["image"][:] = 5.0
    batch["valid"] = torch.ones((12, 5, 32, 32), dtype=torch.bool)
    batch["valid"][:, 2, 10:14, 10:14] = False
    batch["image"][:, 2, 10:14, 10:14] = 1e9
    batch["image"][0, 2, 11, 11] = float("nan")
    out = run(batch, Augmentation(rotate_deg=30, scale=(0.9, 1.3)))
    assert torch.allclose(out["image"][out["valid"]], torch.tensor(5.0), atol=1e-4)
    assert out["valid"][:, 0].sum() > out["valid"][:, 2].sum()


def test_noise_has_the_sd_asked_for_and_spares_invalid_pixels():
    batch = make_batch(tiles=20, size=64)
    batch["valid"][..., :8, :] = False
    out = run(batch, Augmentation(**NONE, noise=0.25))
    difference = (out["image"] - batch["image"])[..., 8:, :].transpose(0, 1).flatten(1)
    assert torch.allclose(difference.std(1), 0.25 * SD[5], rtol=0.02)
    assert difference.mean(1).abs().lt(0.01 * SD[5]).all()
    assert torch.equal(out["image"][..., :8, :], batch["image"][..., :8, :])


def test_one_seed_gives_the_same_bits_and_another_does_not():
    batch = make_batch()
    settings = Augmentation(rotate_deg=20, scale=(0.9, 1.2), crop=0.8, noise=0.1)
    first, again, other = (run(batch, settings, seed) for seed in (1, 1, 2))
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])


def test_the_batch_given_is_left_as_it_was():
    batch = make_batch()
    before = batch["image"].clone()
    out = run(batch, Augmentation(rotate_deg=20, noise=0.1))
    assert torch.equal(batch["image"], before)
    assert torch.equal(out["label"], batch["label"])


@pytest.mark.parametrize("wrong", [{"rotate_deg": 181}, {"crop": 0.0}, {"noise": -1}])
def test_figures_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Augmentation(**wrong)


@pytest.mark.parametrize("wrong", [{"scale": (1.2, 0.8)}, {"erase_area": (0.4, 0.1)}])
def test_ranges_that_fall_are_refused(wrong):
    with pytest.raises(DataError, match=f"augment: .*{next(iter(wrong))}"):
        run(make_batch(), Augmentation(**wrong))
