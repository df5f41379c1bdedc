"""How a pretrained first convolution meets other bands, and what may then be frozen."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torchvision

from geotl.errors import BandError, WeightsError
from geotl.models.registry import Backbone, build_backbone, freeze, parameter_groups
from geotl.models.weight_loading import InitialWeights

RGB = (("red", "green", "blue"), (665.0, 560.0, 490.0))
RGBN = (("blue", "green", "red", "nir"), (490.0, 560.0, 665.0, 842.0))
GREY = (("grey",), (None,))
DERIVED = ("wavelength", "repeat", "mean")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    return str(path)


def stem(bands, file: str, mode: str) -> Backbone:
    return build_backbone(
        "squeezenet1_1", *bands, initial=InitialWeights(file, first_conv=mode), cut_after="fire2_3"
    )[0].eval()


def kernels(backbone: Backbone) -> torch.Tensor:
    return backbone.state_dict()["stages.stem.0.weight"]


def same(side: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(side, other, atol=1e-4)


@pytest.mark.parametrize("bands", [RGBN, GREY, (tuple("abcde"), (None,) * 5)])
@pytest.mark.parametrize("mode", DERIVED)
def test_derived_kernels_keep_the_response_to_grey_and_may_be_frozen(file, bands, mode) -> None:
    grey = torch.randn((2, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    network, count = stem(bands, file, mode), len(bands[0])
    plain = stem(RGB, file, mode)
    expected = plain(grey.expand(-1, 3, -1, -1))["fire2_3"]
    assert same(network(grey.expand(-1, count, -1, -1))["fire2_3"], expected)
    assert not network.random_stages
    freeze(network, "fire2_3")


@pytest.mark.parametrize("mode", ["wavelength", "repeat", "zero", "rgb_only"])
def test_red_green_and_blue_themselves_are_untouched(file, mode) -> None:
    held = torch.load(file, weights_only=True)["features.0.weight"]
    network, report = build_backbone(
        "squeezenet1_1", *RGB, initial=InitialWeights(file, first_conv=mode)
    )
    assert torch.equal(kernels(network), held)
    assert report.rows[0].status == "loaded"
    freeze(network, "stem")


@pytest.mark.parametrize("mode", ["zero", "rgb_only"])
def test_red_green_and_blue_keep_their_kernels_and_nir_gets_none(file, mode) -> None:
    held = torch.load(file, weights_only=True)["features.0.weight"]
    found = kernels(stem(RGBN, file, mode))
    assert torch.equal(found[:, :3], held.flip(1))
    assert not found[:, 3].any()


@pytest.mark.parametrize("mode", ["zero", "rgb_only"])
def test_one_band_has_no_red_green_and_blue_to_keep(file, mode) -> None:
    with pytest.raises(BandError, match=r"no red band.*zero need red.*wavelength, repeat or mean"):
        stem(GREY, file, mode)


def test_bands_that_start_at_zero_are_not_frozen_but_for_a_probe(file) -> None:
    network, report = build_backbone(
        "squeezenet1_1", *RGBN, initial=InitialWeights(file, first_conv="zero")
    )
    assert "start at zero are used only once trained" in report.summary()
    assert report.rows[0].status == "adapted"
    with pytest.raises(WeightsError, match=r"stem hold .*start at zero.*strategy=full"):
        freeze(network, "stem")
    freeze(network, "stem", allow_random=True)


def trained(network: Backbone) -> Backbone:
    network = copy.deepcopy(network)
    groups = parameter_groups(
        network, torch.nn.Linear(1, 1), lr=0.01, lr_decay=1.0, weight_decay=0.1
    )
    optimiser = torch.optim.AdamW(groups)
    for step in range(2):
        x = torch.randn((2, 4, 32, 32), generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        network(x)["fire2_3"].square().mean().backward()
        optimiser.step()
    return network


def test_training_takes_up_bands_that_start_at_zero(file) -> None:
    assert kernels(trained(stem(RGBN, file, "zero")))[:, 3].abs().max() > 1e-3


@pytest.mark.parametrize("weights", ["file", "none"])
def test_training_never_takes_up_bands_that_count_for_nothing(file, weights) -> None:
    before = stem(RGBN, file if weights == "file" else "none", "rgb_only")
    after = trained(before)
    assert not torch.equal(kernels(after)[:, :3], kernels(before)[:, :3])
    assert not kernels(after)[:, 3].any()
    one, other = torch.zeros(1, 4, 32, 32), torch.zeros(1, 4, 32, 32)
    other[:, 3] = 9.0
    assert torch.equal(after(one)["fire2_3"], after(other)["fire2_3"])
    assert list(after.state_dict()) == list(stem(RGBN, file, "wavelength").state_dict())


def test_silencing_leaves_the_global_generator_alone(file) -> None:
    state = torch.get_rng_state()
    stem(RGBN, file, "rgb_only")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_grey_file_serves_any_bands(tmp_path: Path) -> None:
    grey, _ = build_backbone("lenet5", ["grey"])
    plain = {f"{n.split('.')[1]}.{n.split('.', 2)[2]}": t for n, t in grey.state_dict().items()}
    torch.save(plain, tmp_path / "grey.pth")
    for mode in DERIVED:
        network, _ = build_backbone(
            "lenet5", *RGBN, initial=InitialWeights(str(tmp_path / "grey.pth"), first_conv=mode)
        )
        found = network.state_dict()["stages.c1.conv.weight"]
        assert same(found, plain["c1.conv.weight"].expand(-1, 4, -1, -1) / 4)
    with pytest.raises(BandError, match="bands grey: no red band"):
        build_backbone(
            "lenet5", *RGBN, initial=InitialWeights(str(tmp_path / "grey.pth"), first_conv="zero")
        )
