"""Weight files: what is read, what is refused, and how first kernels meet other bands."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from geotl.errors import BandError, WeightsError
from geotl.io.files import sha256_of
from geotl.models.first_conv import (
    RGB,
    RGB_NM,
    adapt_first_conv,
    mean_matrix,
    mix_kernels,
    mixing_matrix,
    repetition_matrix,
    rgb_only_matrix,
    rgb_positions,
    same_bands,
)
from geotl.models.weights import WeightFile, check_values, read_weight_file, strip_prefixes

TENSORS = {"conv1.weight": torch.arange(12.0).view(1, 3, 2, 2), "bn1.bias": torch.ones(4)}
S2_NM = (
    442.7,
    492.4,
    559.8,
    664.6,
    704.1,
    740.5,
    782.8,
    832.8,
    864.7,
    945.1,
    1373.5,
    1613.7,
    2202.4,
)
WAVELENGTHS = st.one_of(st.none(), st.floats(300, 2500))


def write_pth(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_both_formats_give_the_tensors_and_the_digest(tmp_path, suffix):
    path = tmp_path / f"some{suffix}"
    save_file(TENSORS, path) if suffix == ".safetensors" else write_pth(path, TENSORS)
    held = read_weight_file(path)
    assert held.sha256 == sha256_of(path)
    assert {name: t.tolist() for name, t in held.tensors.items()} == {
        name: t.tolist() for name, t in TENSORS.items()
    }


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "model._orig_mod.backbone."])
def test_wrappers_and_prefixes_are_taken_off(tmp_path, wrapper, prefix):
    wrapped = {prefix + name: tensor for name, tensor in TENSORS.items()}
    path = write_pth(
        tmp_path / "w.ckpt", {wrapper: wrapped | {"loss.weight": torch.ones(2)}, "e": 3}
    )
    held = read_weight_file(path)
    assert set(held.tensors) == set(TENSORS)
    assert held.outside == ("loss.weight",)


def test_plain_names_lose_nothing():
    assert strip_prefixes(TENSORS) == (TENSORS, ())


class Trap:
    """Unpickling it would make the file it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [None, 0, 2, 4, 5])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path, protocol):
    made, path = tmp_path / "made", tmp_path / "trap.pth"
    trap = {"conv1.weight": Trap(made)}
    if protocol is None:
        write_pth(path, trap)
    else:
        path.write_bytes(pickle.dumps(trap, protocol))
    told = "damaged" if protocol == 0 else "contains Python code.*nothing was run"
    with pytest.raises(WeightsError, match=rf"trap\.pth: .*{told}") as caught:
        read_weight_file(path)
    assert "\n" not in str(caught.value)
    assert ("mkdir" in str(caught.value)) == (protocol in (None, 2))
    assert not made.exists()


def test_the_trap_would_spring_if_it_were_unpickled(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "made")))
    assert (tmp_path / "made").exists()


def test_a_whole_pickled_network_is_refused(tmp_path):
    path = write_pth(tmp_path / "whole.pth", torch.nn.Linear(2, 2))
    with pytest.raises(WeightsError, match="contains Python code or objects"):
        read_weight_file(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["cut", "noise", "text", "empty"])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, suffix, damage):
    path = tmp_path / f"bad{suffix}"
    save_file(TENSORS, path) if suffix == ".safetensors" else write_pth(path, TENSORS)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "noise": np.random.default_rng(0).bytes(500),
            "text": b"<html>404 not found</html>",
            "empty": b"",
        }[damage]
    )
    with pytest.raises(WeightsError, match=rf"bad{suffix}.*fetch it again") as caught:
        read_weight_file(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_unknown_suffix_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no such weight file"):
        read_weight_file(tmp_path / "gone.pth")
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"not \.h5"):
        read_weight_file(tmp_path / "w.h5")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2)])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    with pytest.raises(WeightsError, match="no tensors by name"):
        read_weight_file(write_pth(tmp_path / "w.pth", content))


def test_a_model_file_gives_its_backbone_and_bands(tmp_path):
    path = tmp_path / "m.safetensors"
    contract = {"backbone": "lenet5", "bands": ["red", "x"], "wavelengths": [665, None]}
    tensors = {"backbone.stages.c1.conv.bias": torch.ones(6), "head.weight": torch.ones(2, 2)}
    save_file(tensors, path, metadata={"geotl": json.dumps(contract)})
    held = read_weight_file(path)
    assert set(held.tensors) == {"stages.c1.conv.bias"}
    assert (held.backbone, held.bands) == ("lenet5", ("red", "x"))
    assert held.wavelengths == (665.0, None)


@pytest.mark.parametrize("header", ["{", '{"bands": []}', "[]"])
def test_a_model_file_with_a_broken_header_is_refused(tmp_path, header):
    path = tmp_path / "m.safetensors"
    save_file({"backbone.stages.c1.conv.bias": torch.ones(6)}, path, metadata={"geotl": header})
    with pytest.raises(WeightsError, match="header"):
        read_weight_file(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(value):
    file = WeightFile("f.pth", "", {"a": torch.tensor([1.0, value]), "b": torch.ones(1)})
    check_values(file, ["b"])
    with pytest.raises(WeightsError, match=r"f\.pth: tensor a has NaN"):
        check_values(file, ["a", "b"])


@pytest.fixture
def kernels() -> torch.Tensor:
    weight = torch.randn((16, 3, 7, 7), generator=torch.Generator().manual_seed(1))
    weight[0, 0, 0, 0] = -0.0
    return weight


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_red_green_and_blue_in_any_order_are_copied_bit_for_bit(kernels, order):
    adapted = adapt_first_conv(kernels, RGB_NM, [RGB_NM[i] for i in order])
    assert adapted.numpy().tobytes() == kernels[:, list(order)].contiguous().numpy().tobytes()


def test_a_sensor_a_few_nanometres_off_still_gets_plain_copies(kernels):
    assert torch.equal(adapt_first_conv(kernels, RGB_NM, (492.4, 559.8, 664.6)), kernels.flip(1))


@settings(max_examples=60, deadline=None)
@given(
    source=st.lists(WAVELENGTHS, min_size=1, max_size=6),
    target=st.lists(WAVELENGTHS, min_size=1, max_size=14),
)
def test_every_kernel_is_given_out_exactly_once(source, target):
    matrix = mixing_matrix(source, target)
    assert matrix.shape == (len(target), len(source))
    assert (matrix >= 0).all()
    np.testing.assert_allclose(matrix.sum(axis=0), 1.0)


@pytest.mark.parametrize("target", [S2_NM, (842.0,), (None,), (490.0, 2200.0), RGB_NM[::-1]])
def test_the_response_to_grey_keeps_its_magnitude(kernels, target):
    grey = torch.randn((2, 1, 16, 16), generator=torch.Generator().manual_seed(2))
    before = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernels)
    adapted = adapt_first_conv(kernels, RGB_NM, target)
    after = torch.nn.functional.conv2d(grey.expand(-1, len(target), -1, -1), adapted)
    assert adapted.shape == (16, len(target), 7, 7)
    assert torch.allclose(before, after, atol=1e-4)


def test_bands_beyond_the_visible_take_the_nearest_kernel(kernels):
    adapted = adapt_first_conv(kernels, RGB_NM, S2_NM)
    assert torch.allclose(adapted[:, 0] * 2, kernels[:, 2], atol=1e-6)  # B01 and B02: blue
    assert torch.equal(adapted[:, 2], kernels[:, 1])  # B03: green
    assert torch.allclose(adapted[:, 12] * 10, kernels[:, 0], atol=1e-6)  # B12: red, of ten


def test_a_band_between_two_takes_some_of_each():
    np.testing.assert_allclose(
        mixing_matrix(RGB_NM, (665, 612.5, 560, 490)),
        [[1 / 1.5, 0, 0], [0.5 / 1.5, 0.5 / 1.5, 0], [0, 1 / 1.5, 0], [0, 0, 1]],
    )


def test_one_band_takes_the_sum_of_all_kernels(kernels):
    adapted = adapt_first_conv(kernels, RGB_NM, (None,))
    assert torch.allclose(adapted, kernels.sum(1, keepdim=True), atol=1e-6)


def test_bands_of_one_name_keep_their_kernels_whatever_the_order(kernels):
    source = (("a", "B08", "c"), (None, 842.0, None))
    target = (("C", "a", "b08"), (None, None, 833.0))
    same = same_bands(source, target)
    assert same == {0: 2, 1: 0, 2: 1}
    adapted = adapt_first_conv(kernels, source[1], target[1], same)
    assert torch.equal(adapted, kernels[:, [2, 0, 1]])


def test_one_name_for_two_wavelengths_is_not_one_band():
    assert same_bands((("B1",), (443.0,)), (("B1",), (665.0,))) == {}


def test_a_kernel_left_over_goes_to_the_nearest_band():
    matrix = mixing_matrix((842.0, 665.0, 560.0), (665.0, 560.0))
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 0, 1]])


def test_rgb_only_gives_other_bands_nothing(kernels):
    bands = ("nir", "Blue", "GREEN", "red")
    matrix = rgb_only_matrix((RGB, RGB_NM), (bands, (842, None, None, None)))
    adapted = mix_kernels(kernels, matrix)
    assert not adapted[:, 0].any()
    assert torch.equal(adapted[:, 1:], kernels.flip(1))


def test_rgb_only_without_red_is_refused():
    with pytest.raises(BandError, match="no red band"):
        rgb_positions(("B02", "B03", "B08"), (492, 560, 833))


# the other ways in which first kernels meet other bands

S2 = (tuple(f"B{i:02d}" for i in range(13)), S2_NM)
TARGETS = {
    "sentinel2": S2,
    "rgbn": (("red", "green", "blue", "nir"), (665.0, 560.0, 490.0, 842.0)),
    "one band": (("grey",), (None,)),
    "two unplaced": (("vv", "vh"), (None, None)),
    "five unplaced": (tuple("abcde"), (None,) * 5),
}


@pytest.mark.parametrize("make", [repetition_matrix, mean_matrix])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_repeated_and_mean_kernels_keep_the_response_to_grey(kernels, make, target):
    grey = torch.randn((2, 1, 16, 16), generator=torch.Generator().manual_seed(2))
    adapted = mix_kernels(kernels, make((RGB, RGB_NM), target))
    before = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernels)
    after = torch.nn.functional.conv2d(grey.expand(-1, len(target[0]), -1, -1), adapted)
    assert torch.allclose(before, after, atol=1e-4)


def timm_repeated(weight: torch.Tensor, bands: int) -> torch.Tensor:
    """timm.models.adapt_input_conv, whose bands start with red, green, blue."""
    if bands == 1:
        return weight.sum(dim=1, keepdim=True)
    repeat = -(-bands // 3)
    return weight.repeat(1, repeat, 1, 1)[:, :bands] * (3 / bands)


@pytest.mark.parametrize("bands", [1, 3, 6, 12])
def test_repetition_is_timms_where_it_keeps_the_response_too(kernels, bands):
    unplaced = (tuple(f"b{i}" for i in range(bands)), (None,) * bands)
    found = mix_kernels(kernels, repetition_matrix((RGB, RGB_NM), unplaced))
    assert torch.allclose(found, timm_repeated(kernels, bands), atol=1e-6)


def test_repetition_finds_red_green_and_blue_in_any_order(kernels):
    """timm would give the blue of a blue-first sensor red's kernel."""
    order = (3, 2, 1, 0)  # of TARGETS["rgbn"]
    straight = mix_kernels(kernels, repetition_matrix((RGB, RGB_NM), TARGETS["rgbn"]))
    names, nm = TARGETS["rgbn"]
    turned = ([names[i] for i in order], [nm[i] for i in order])
    found = mix_kernels(kernels, repetition_matrix((RGB, RGB_NM), turned))
    assert torch.equal(found, straight[:, list(order)])
    assert torch.equal(straight[:, 1], kernels[:, 1])
    assert torch.equal(straight[:, 0], kernels[:, 0] / 2)


def test_repetition_matches_by_wavelength_without_names(kernels):
    matrix = repetition_matrix((RGB, RGB_NM), S2)
    assert [int(row.argmax()) for row in matrix[1:4]] == [2, 1, 0]  # B02 blue, B03 green, B04 red
    assert set(np.count_nonzero(matrix, axis=1)) == {1}
    assert sorted(np.count_nonzero(matrix, axis=0)) == [4, 4, 5]
