"""Kornia's augmentations by name: every one that is accepted, over bands, batches and validity."""

from __future__ import annotations

import kornia.augmentation
import pytest
import torch
from helpers.kornia_examples import NEEDED, SEVERAL, takes

from geotl.errors import DataError, RecipeError
from geotl.training.augment import augment
from geotl.training.kornia_keys import checked_step
from geotl.training.kornia_names import UNBOUNDED, accepted, fault, refused
from geotl.training.kornia_steps import apply_steps, check_steps, nearest_valid
from geotl.training.settings import Augmentation, Light

SIZE = 32
IDLE = {"RandomChannelShuffle", "RandomGrayscale", "RandomEqualize", "RandomAutoContrast"}
NAMES = sorted(accepted())
MEAN, SD = 3000.0, 500.0


def step(name: str, **more):
    return {name: {**NEEDED.get(name, {}), "p": 1.0, **more}}


def tiles(bands: int, count: int, planes: int = 1):
    """Tiles of digital numbers; a corner and a patch, or half a tile, are invalid: the mean."""
    random = torch.Generator().manual_seed(3)
    image = torch.rand((count, bands, SIZE, SIZE), generator=random) * 2000 + 2000
    valid = torch.ones((count, planes, SIZE, SIZE), dtype=torch.bool)
    valid[:, :, :6, :6] = False
    valid[:, :1, 20:24, 14:20] = False
    valid[1::2, :, SIZE // 2 :] = False
    return {"image": torch.where(valid, image, torch.full_like(image, MEAN)), "valid": valid}


def run(batch, *steps, seed: int = 0, marks=()):
    bands = batch["image"].shape[1]
    return apply_steps(
        batch,
        steps,
        torch.Generator().manual_seed(seed),
        band_sd=torch.full((bands,), SD),
        fill=torch.full((bands,), MEAN),
        marks=marks,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bands", [1, 3, 4, 10, 13])
@pytest.mark.parametrize("count", [1, 8])
def test_each_works_on_any_bands_or_says_which_it_wants(name, bands, count) -> None:
    given = step(name)
    if not takes(name, bands):
        with pytest.raises(DataError, match=rf"^{name}: (wants .* have {bands}|leaves nothing)"):
            check_steps([given], bands, (SIZE, SIZE))
        if name in SEVERAL:
            assert torch.equal(
                run(tiles(bands, count), given)["valid"], tiles(bands, count)["valid"]
            )
            return
        with pytest.raises(DataError, match=rf"^augment.kornia: {name}: wants .* have {bands}"):
            run(tiles(bands, count), given)
        return
    check_steps([given], bands, (SIZE, SIZE))
    batch = tiles(bands, count, planes=bands)
    state, before = torch.get_rng_state(), batch["image"].clone()
    out = run(batch, given)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(batch["image"], before)
    assert out["image"].isfinite().all()
    assert out["image"].shape == before.shape
    assert out["valid"].dtype == torch.bool
    assert (out["image"][~out["valid"].expand_as(out["image"])] == MEAN).all()
    torch.manual_seed(99)
    again, other = run(batch, given), run(batch, given, seed=1)
    assert torch.equal(again["image"], out["image"])
    assert torch.equal(again["valid"], out["valid"])
    if name not in IDLE and not (count == 1 and name in {"RandomSharpness", "RandomPosterize"}):
        assert not torch.equal(out["image"], before)
    assert other["image"].isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_no_fill_value_has_a_part_in_a_valid_pixel(name) -> None:
    batch = tiles(3, 4, planes=3)
    wild = torch.where(batch["valid"], batch["image"], torch.full_like(batch["image"], 1e6))
    out, other = run(batch, step(name)), run({**batch, "image": wild}, step(name))
    assert torch.equal(out["valid"], other["valid"])
    seen = out["valid"].expand_as(out["image"])
    assert torch.equal(out["image"][seen], other["image"][seen])


@pytest.mark.parametrize("name", NAMES)
def test_validity_moves_with_the_pixels_or_stays(name) -> None:
    batch = tiles(3, 4)
    out = run(batch, step(name))
    behaviour = accepted()[name].behaviour
    if behaviour == "changes":
        assert torch.equal(out["valid"], batch["valid"])
    elif behaviour == "erases":
        assert (out["valid"].float().mean((1, 2, 3)) < batch["valid"].float().mean((1, 2, 3))).all()
        assert (out["valid"] <= batch["valid"]).all()
    else:
        flag = batch["valid"].float() * 8000 + 1000  # an image that shows its own validity
        shown = run({**batch, "image": flag.expand(-1, 3, -1, -1).clone()}, step(name))
        assert torch.equal(shown["valid"], out["valid"])
        torch.testing.assert_close(
            shown["image"][out["valid"].expand(-1, 3, -1, -1)],
            torch.full((3 * int(out["valid"].sum()),), 9000.0),
        )


@pytest.mark.parametrize("name", NAMES)
def test_tiles_that_are_not_chosen_keep_every_bit(name) -> None:
    batch = tiles(3, 8)
    out = run(batch, step(name, p=0.0))
    assert torch.equal(out["image"], batch["image"])
    assert torch.equal(out["valid"], batch["valid"])


@pytest.mark.parametrize("name", NAMES)
def test_a_tile_without_valid_pixels_stays_without(name) -> None:
    batch = tiles(3, 2)
    batch["valid"][0] = False
    batch["image"][0] = MEAN
    out = run(batch, step(name))
    assert not out["valid"][0].any()
    assert (out["image"][0] == MEAN).all()
    assert out["image"].isfinite().all()


def test_every_class_that_kornia_exports_is_accepted_or_refused_with_a_reason() -> None:
    exported = {
        name
        for name in dir(kornia.augmentation)
        if isinstance(getattr(kornia.augmentation, name), type)
    }
    assert accepted().keys() | refused().keys() == exported
    assert not accepted().keys() & refused().keys()
    assert len(accepted()) >= 48
    for name in refused():
        assert (fault(name, {}) or "").startswith(f"{name}: refused, because it ")


def test_a_flip_moves_pixels_bit_for_bit() -> None:
    batch = tiles(10, 3)
    out = run(batch, step("RandomHorizontalFlip"))
    assert torch.equal(out["image"], batch["image"].flip(-1))
    assert torch.equal(out["valid"], batch["valid"].flip(-1))


def test_values_beyond_the_limits_are_not_cut_off() -> None:
    batch = tiles(3, 2)
    batch["image"][:, :, 28, 28] = 20_000.0
    out = run(batch, step("RandomBrightness"))
    assert (out["image"][:, :, 28, 28] > 18_000).all()


def test_a_tile_that_would_lose_most_of_its_pixels_stays() -> None:
    batch = tiles(3, 4)
    out = run(batch, step("RandomTranslate", translate_x=[0.8, 0.9]))
    assert torch.equal(out["image"], batch["image"])


@pytest.mark.parametrize("name", ["RandomElasticTransform", "RandomPerspective", "RandomRotation"])
def test_marks_move_with_their_pixels_and_none_is_doubled(name) -> None:
    batch = tiles(1, 4)
    batch["valid"][:] = True
    marks, image = torch.zeros(4, 2, SIZE, SIZE), torch.full_like(batch["image"], 1000.0)
    for number, (row, column) in enumerate([(8, 9), (15, 20), (22, 12)], 1):
        marks[:, 0, row, column], marks[:, 1, row, column] = number, 0.5
        image[:, :, row - 1 : row + 2, column - 1 : column + 2] = 1000.0 * (number + 1)
    out = run({**batch, "image": image, "marks": marks}, step(name), marks=("marks",))
    for number in (1, 2, 3):
        tile, row, column = torch.nonzero(out["marks"][:, 0] == number, as_tuple=True)
        assert tile.tolist() == [0, 1, 2, 3]
        values = out["image"][tile, 0, row, column]
        assert ((values - 1000.0 * (number + 1)).abs() < 350 * number).all()
        assert (out["marks"][tile, 1, row, column] == 0.5).all()


def test_the_nearest_valid_pixel_stands_in_for_one_without_data() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    valid = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    valid[0, 0, 1, 1:3] = True
    expected = torch.tensor([5.0, 5, 6, 6]).expand(1, 1, 3, 4)
    assert torch.equal(nearest_valid(image, valid), expected)
    assert torch.equal(nearest_valid(image, torch.zeros_like(valid)), image)


def test_the_seed_of_a_batch_alone_decides_and_geotls_own_draws_stay_as_they_are() -> None:
    batch, kind = tiles(3, 8), {"rotate_deg": 20.0, "noise": 0.1}
    sd, fill = torch.full((3,), SD), torch.full((3,), MEAN)

    def varied(*steps):
        settings = Augmentation(kornia=steps, **kind)
        generator = torch.Generator().manual_seed(7)
        return augment(batch, settings, generator, band_sd=sd, fill=fill, light=Light())["image"]

    plain = varied()
    assert torch.equal(varied(step("RandomVerticalFlip")), plain.flip(-2))
    several = [step("RandomElasticTransform"), step("RandomGaussianNoise", p=0.5)]
    torch.manual_seed(1)
    first = varied(*several)
    torch.manual_seed(2)
    assert torch.equal(varied(*several), first)
    assert not torch.equal(varied(step("RandomGaussianNoise")), plain)


@pytest.mark.parametrize("name", sorted(UNBOUNDED - {"RandomGaussianNoise"}))
def test_a_blur_takes_nothing_from_beyond_a_tile(name) -> None:
    batch = tiles(3, 4)
    even = {**batch, "image": torch.full_like(batch["image"], 3700.0)}
    kernel = 7 if name == "RandomMotionBlur" else [7, 7]
    out = run(even, step(name, kernel_size=kernel))["image"]
    torch.testing.assert_close(out, even["image"])


@pytest.mark.parametrize("name", NAMES)
def test_tiles_need_not_be_square(name) -> None:
    batch = {key: values[:, :, :24].contiguous() for key, values in tiles(3, 4).items()}
    out = run(batch, step(name))
    assert out["image"].shape == (4, 3, 24, SIZE)
    assert out["image"].isfinite().all()


@pytest.mark.parametrize("name", ["RandomElasticTransform", "RandomGaussianBlur", "RandomGamma"])
def test_a_training_in_bfloat16_varies_tiles_in_single_precision(name) -> None:
    batch = tiles(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = run(batch, step(name))
    assert torch.equal(half["image"], run(batch, step(name))["image"])


def test_steps_follow_in_turn() -> None:
    batch = tiles(3, 4)
    flip, erase = step("RandomHorizontalFlip"), step("RandomErasing")
    one, other = run(batch, flip, erase), run(batch, erase, flip)
    assert not torch.equal(one["valid"], other["valid"])
    twice = run(batch, flip, flip)
    assert torch.equal(twice["image"], batch["image"])


def test_a_size_is_that_of_the_tiles() -> None:
    batch = tiles(10, 4)
    assert run(batch, step("RandomResizedCrop"))["image"].shape == batch["image"].shape
    given = step("RandomResizedCrop", size=[16, 16])
    with pytest.raises(DataError, match="gives 16x16 px of 32x32 px; leave its size away"):
        run(batch, given)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("RandomPerspectiv", "no augmentation of Kornia's; did you mean 'RandomPerspective'?"),
        ("RandomVerticalFlip3D", "it is for volumes; did you mean 'RandomVerticalFlip'?"),
        ("RandomMixUpV2", "refused, because it mixes tiles, and their labels with them"),
        ({"Resize": {"size": 8}}, "refused, because it changes the size of tiles"),
        ({"RandomErasing": {"value": 1.0}}, "value: not to be given, because pixels without data"),
        ({"RandomErasing": {"p": 2}}, "p: given 2; allowed: a probability, 0 to 1"),
        ({"RandomErasing": {"scal": [0, 1]}}, "scal: no such argument; did you mean 'scale'?"),
        ({"RandomShear": {}}, "RandomShear: no shear given; RandomShear(shear, resample="),
        (
            {"RandomGaussianBlur": {"kernel_size": [4, 4], "sigma": [1, 2]}},
            "an odd integer bigger than 0. Got 4 on (4, 4); RandomGaussianBlur(kernel_size, sigma",
        ),
        (
            {"RandomMotionBlur": {**NEEDED["RandomMotionBlur"], "border_type": "constant"}},
            "border_type: given 'constant'; allowed: reflect, replicate, circular",
        ),
        ({"RandomErasing": {"scale": [0.1, float("nan")]}}, "allowed: numbers to a million"),
        ({"RandomRain": {"number_of_drops": [1, 10**9]}}, "allowed: numbers to a million"),
        ({"RandomErasing": {"scale": {"a": 1}}}, "allowed: numbers to a million"),
        ({"RandomErasing": [1]}, "allowed: a name, or one name with its arguments"),
        ({"RandomErasing": {}, "RandomInvert": {}}, "allowed: a name, or one name with"),
        (3, "given 3; allowed: a name, or one name with its arguments"),
        ("os.system", "os.system: no augmentation of Kornia's"),
    ],
)
def test_what_a_recipe_can_get_wrong_is_one_line(value, says) -> None:
    with pytest.raises(RecipeError) as error:
        checked_step(value)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_alone_takes_kornias_defaults_and_tuples_read_back_as_lists() -> None:
    assert checked_step("RandomInvert") == checked_step({"RandomInvert": None})
    assert checked_step({"RandomErasing": {"scale": (0.1, 0.2)}}) == {
        "RandomErasing": {"scale": [0.1, 0.2]}
    }
