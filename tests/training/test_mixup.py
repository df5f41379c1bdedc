"""Mixup and cutmix: pixels, validity and labels in the same shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geotl.training.batches import Mix, draw_mix, mix_tiles, mix_values


def made(bands: int = 3, tiles: int = 16, size: int = 20):
    image = torch.rand((tiles, bands, size, size), generator=torch.Generator().manual_seed(1))
    return {"image": image, "valid": torch.ones((tiles, 1, size, size), dtype=torch.bool)}


def draw(mixup: float = 0, cutmix: float = 0, count: int = 16, seed: int = 0) -> Mix:
    return draw_mix(count, (20, 20), mixup, cutmix, np.random.default_rng(seed))


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_mixup_is_the_formula(bands: int) -> None:
    batch, mix = made(bands), draw(mixup=0.4)
    out = mix_tiles(batch, mix, torch.zeros(bands))
    for i in (0, 7):
        a, b, s = batch["image"][i], batch["image"][mix.partner[i]], float(mix.share[i])
        torch.testing.assert_close(out["image"][i], s * a + (1 - s) * b)


def test_shares_are_beta_distributed() -> None:
    share = draw(mixup=0.4, count=20_000).share
    assert float(share.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(share.var()) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.004)


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    batch, mix = made(), draw(cutmix=1.0)
    assert mix.box is not None
    out = mix_tiles(batch, mix, torch.zeros(3))
    other = batch["image"][mix.partner]
    assert torch.equal(out["image"], torch.where(mix.box, other, batch["image"]))
    torch.testing.assert_close(mix.share, 1 - mix.box.float().mean((1, 2, 3)))
    assert 0.4 < float(draw(cutmix=1.0, count=5000).share.mean()) < 0.75  # boxes are cut at edges


@pytest.mark.parametrize("kind", [{"mixup": 0.5}, {"cutmix": 1.0}])
@pytest.mark.parametrize("planes", [1, 3])
def test_a_hole_in_one_takes_the_other_and_in_both_the_fill(kind, planes: int) -> None:
    batch, mix = made(), draw(**kind)
    batch["valid"] = batch["valid"].expand(-1, planes, -1, -1).clone()
    batch["valid"][::2, :, :8] = False  # every other tile
    batch["valid"][:, :, :, :3] = False  # all of them
    batch["image"] = torch.where(batch["valid"], batch["image"], torch.full((), 1e6))
    out = mix_tiles(batch, mix, torch.full((3,), -1.0))
    own = batch["valid"].expand_as(batch["image"])
    other = own[mix.partner]
    valid = out["valid"].expand_as(out["image"])
    assert torch.equal(valid, own | other)
    assert (out["image"][~valid] == -1.0).all()
    assert out["image"][valid].max() <= 1.0
    alone = own & ~other
    assert torch.equal(out["image"][alone], batch["image"][alone])
    assert torch.equal(out["image"][other & ~own], batch["image"][mix.partner][other & ~own])


def test_labels_are_mixed_by_the_same_shares() -> None:
    mix, labels = draw(mixup=1.0), torch.eye(4)[torch.arange(16) % 4]
    shares = mix_values(labels, mix)
    torch.testing.assert_close(shares.sum(1), torch.ones(16))
    own = labels[3] * mix.share[3] + labels[mix.partner[3]] * (1 - mix.share[3])
    torch.testing.assert_close(shares[3], own)


def test_both_kinds_take_turns_and_a_seed_repeats() -> None:
    kinds = [draw(0.4, 1.0, seed=s).box is not None for s in range(60)]
    assert 15 < sum(kinds) < 45
    a, b = draw(0.4, 1.0, seed=5), draw(0.4, 1.0, seed=5)
    assert torch.equal(a.share, b.share)
    assert torch.equal(a.partner, b.partner)
