"""Architectures: figures that are known, and claims that a broken technique must not pass."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.demonstrations import claims_seen

from geotl.lecture import architectures, blocks
from geotl.lecture.recipes import BackboneTable, Bottleneck, Levels, Pictured
from geotl.models.registry import build_backbone

pytestmark = pytest.mark.usefixtures("lecture_cache")


def test_the_table_has_the_known_counts() -> None:
    shown = architectures.parameter_table(BackboneTable())
    assert {name: tuple(v.values()) for name, v in shown.values.items()} == {
        "lenet5": (61_706, 61_706),
        "alexnet": (61_100_840, 61_100_840),
        "googlenet": (6_624_904, 13_004_888),
        "inception_v3": (23_834_568, 27_161_264),
        "vgg16": (138_357_544, 138_357_544),
        "resnet18": (11_689_512, 11_689_512),
        "resnet50": (25_557_032, 25_557_032),
    }
    assert claims_seen(shown) == {"counts": True, "fewer": True}
    assert not claims_seen(architectures.parameter_table(BackboneTable(names=("resnet18",))))[
        "counts"
    ]


def test_the_1x1_convolution_saves_nine_multiplications_in_ten() -> None:
    assert blocks.multiplications(28, 192, 32, 5, 16) == (120_422_400, 12_443_648)
    wide = Bottleneck(narrow=2000, repeats=1, side=4)
    assert not claims_seen(blocks.bottleneck(wide))["multiplications"]


def test_lenet5s_slide_is_right_in_three_statements_and_wrong_in_two() -> None:
    shown = architectures.lenet5(Pictured(shots=1))
    assert claims_seen(shown) == {
        "parameters": True,
        "grey": True,
        "after_pooling": True,
        "linear": False,
        "same_filters": False,
    }
    assert (shown.values["dense"], shown.values["sparse"]) == (61_706, 60_000)


def test_vgg16_is_13_convolutions_of_3x3_and_5_pools_of_2x2_and_no_inception() -> None:
    shown = architectures.vgg16(Levels())
    assert claims_seen(shown) == {
        "kernels": True,
        "pools": True,
        "parameters": True,
        "inception": False,
    }
    assert shown.values["fc6"] == 102_764_544


def test_googlenets_block_is_several_kernels_put_together() -> None:
    shown = blocks.parallel_filters(Pictured(shots=1))
    assert claims_seen(shown) == {"parallel": True, "one_by_one": True, "no_choice": False}
    assert list(shown.values["widths"].values()) == [64, 128, 32, 32]


def test_a_zeroed_residual_block_is_the_identity_and_a_plain_one_is_not() -> None:
    assert claims_seen(blocks.zeroed_residual(Levels())) == {
        "identity": True,
        "shortcut": True,
    }


def test_plain_and_residual_have_the_same_weights_but_for_the_shortcuts() -> None:
    residual, _ = build_backbone("resnet18", ["grey"], cut_after="layer2", seed=2)
    plain = blocks.without_shortcuts(residual)
    mine, theirs = plain.state_dict(), residual.state_dict()
    assert {name for name in theirs if name not in mine} == {
        name for name in theirs if "downsample" in name
    }
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
    x = torch.randn(1, 1, 16, 16)
    assert plain(x)["layer2"].shape == residual(x)["layer2"].shape


def test_a_block_without_its_shortcut_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, bands: list[str], **more):
        backbone, origin = build_backbone(name, bands, **more)
        return blocks.without_shortcuts(backbone), origin

    monkeypatch.setattr(blocks, "build_backbone", without)
    assert not claims_seen(blocks.zeroed_residual(Levels()))["identity"]


@dataclasses.dataclass
class Fit:
    epochs: list[dict[str, float]]
    train: float
    test: float


def fits(loss: float, train: float, test: float) -> list[Fit]:
    rows = [
        [
            {"epoch": e, "train_loss": loss + 0.01 * s + 1 - e, "train_accuracy": train}
            for e in (0, 1)
        ]
        for s in range(3)
    ]
    return [Fit(row, train + 0.01 * s, test + 0.01 * s) for s, row in enumerate(rows)]


def test_shortcuts_that_change_nothing_do_not_pass() -> None:
    plain, residual = fits(1.9, 0.25, 0.2), fits(0.5, 0.9, 0.4)
    assert all(claims_seen(blocks.shortcuts_shown((plain, residual), 27)).values())
    assert not any(claims_seen(blocks.shortcuts_shown((plain, plain), 27)).values())
